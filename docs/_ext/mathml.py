"""Equations as MathML, which browsers draw themselves: no script, no font, nothing to fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

if TYPE_CHECKING:
    from docutils.nodes import math, math_block
    from sphinx.application import Sphinx


# characters that docutils' reader of LaTeX doesn't know
COMMANDS = str.maketrans({"←": r"\leftarrow ", "→": r"\to ", "…": r"\ldots ", "⊙": r"\odot ", "·": r"\cdot ", "−": "-"})


def inline(writer: Any, node: math) -> None:
    """Within a line."""
    writer.body.append(tex2mathml(node.astext().translate(COMMANDS)))
    raise nodes.SkipNode


def block(writer: Any, node: math_block) -> None:
    """On lines of its own, which scroll where the window is narrow."""
    writer.body.append(f'<div class="equation">{tex2mathml(node.astext().translate(COMMANDS), as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer, and choose it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"  # type: ignore[attr-defined]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
