"""fastrnn among threadpoolctl's libraries: `threadpool_limits` limits it, `threadpool_info` lists it.

Nobody needs to import this: it is imported when fastrnn and threadpoolctl both are, in either order.

Examples
--------
>>> import fastrnn as fr
>>> from threadpoolctl import threadpool_limits
>>> before = fr.get_num_threads()
>>> with threadpool_limits(1):  # NumPy's BLAS, OpenMP and fastrnn
...     fr.get_num_threads()
1
>>> with threadpool_limits({"fastrnn": 3}):  # or threadpool_limits(3, user_api="fastrnn")
...     fr.get_num_threads()
3
>>> fr.get_num_threads() == before
True
"""

from __future__ import annotations

import sys

from fastrnn import _core
from fastrnn._info import __version__
from fastrnn.interop import needed

__all__ = ["FastrnnController"]

needed("threadpoolctl", "threadpoolctl", "'threadpoolctl>=3.2'")

import threadpoolctl  # noqa: E402

if not hasattr(threadpoolctl, "register"):
    raise ImportError(
        f"threadpoolctl {threadpoolctl.__version__} takes no further libraries, and its limits don't reach fastrnn: "
        "pip install 'threadpoolctl>=3.2'",
        name="threadpoolctl",
    )


class FastrnnController(threadpoolctl.LibController):
    """What threadpoolctl calls to know and to set fastrnn's number of threads, which is the process's.

    It finds the compiled core among the libraries of the process by the beginning of its file's name, and by functions
    that nobody else's `_core` has.
    """

    user_api = "fastrnn"
    internal_api = "fastrnn"
    filename_prefixes = ("_core",)
    check_symbols = ("fastrnn_get_num_threads", "fastrnn_set_num_threads")

    def get_num_threads(self) -> int:
        """Return the number of threads."""
        return int(self.dynlib.fastrnn_get_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        """Set the number of threads."""
        self.dynlib.fastrnn_set_num_threads(num_threads)

    def get_version(self) -> str | None:
        """Return fastrnn's version; also asked of what turns out to be another library."""
        return __version__ if hasattr(self.dynlib, self.check_symbols[0]) else None

    def set_additional_attributes(self) -> None:
        """Say which instruction set runs, under the name that OpenBLAS's controller has for it."""
        self.architecture = _core.isa()


threadpoolctl.register(FastrnnController)
_main = sys.modules.get("__main__")
if getattr(getattr(_main, "__spec__", None), "name", None) == "threadpoolctl":  # python -m threadpoolctl -i fastrnn
    _main.register(FastrnnController)  # type: ignore[union-attr]
