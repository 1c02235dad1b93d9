"""`Pullback`, for layers; it lives above them, since `functional` has it too."""

from fastrnn._pullback import Pullback

__all__ = ["Pullback"]
