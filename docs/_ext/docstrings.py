"""Docstrings as they are written, for people at a terminal, made into what docutils reads.

In running text `|x|` is an absolute value, not a substitution, "`Layer`s" a plural, and lines that are indented after a
blank line are equations or samples, to be shown as they stand. What is inherited from other libraries stays with them.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLURAL = re.compile(r"(?<![`\w])(`[^`]+`)(?=\w)")
BAR = re.compile(r"(`[^`]*`)|\|")
PROSE = {"Notes", "References"}  # sections without entries of their own


def readable(lines: list[str]) -> list[str]:
    """Lines of a docstring, for docutils."""
    done: list[str] = []
    section, shown = "", False
    for at, line in enumerate(lines):
        if at + 1 < len(lines) and line and re.fullmatch(r"-{3,}", lines[at + 1]):
            section = line
        indented = line.startswith("    ")
        if shown and line and not indented:
            shown = False
        if not shown and indented and (not section or section in PROSE) and at and not lines[at - 1]:
            if not "".join(done[-2:]).rstrip().endswith("::"):
                done += [".. code-block:: text", ""]
            shown = True
        if not (shown or line.lstrip().startswith(">>>") or section == "Examples"):
            line = PLURAL.sub(r"\1\\ ", line)
            line = BAR.sub(lambda found: found[1] or r"\|", line)
        done.append(line)
    return done


def foreign(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what classes of ours inherit from other libraries, whose docstrings link within their own pages."""
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or "builtins"
    root = str(module).partition(".")[0]
    return None if root == "fastrnn" or root in sys.stdlib_module_names else True


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """What autodoc and autosummary call with each docstring."""
    lines[:] = readable(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before numpydoc."""
    app.connect("autodoc-skip-member", foreign)
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
