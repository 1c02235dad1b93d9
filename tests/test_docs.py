"""The Python in the pages of `docs/` runs.

All blocks of a page run one after the other, as a reader would type them. What a page takes for granted (data, say)
is in comments of the page that aren't shown, `<!-- python … -->`, and so are checks of what the blocks made. Pages
without such a comment are compiled only. A page that takes a library for granted that may be missing says so,
`<!-- needs: torch, onnx -->`, and is skipped without.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^(?:```python|<!-- python)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]


def blocks(text):
    """(line, source) of each block."""
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for library in re.findall(r"[\w.]+", "".join(re.findall(r"^<!-- needs:(.*)-->$", text, re.MULTILINE))):
        pytest.importorskip(library)
    for line, source in blocks(text):
        code = compile("\n" * (line - 1) + source, str(page), "exec")  # so that errors name the page's line
        if "<!-- python" in text:
            exec(code, names)


def test_the_script_that_draws_figures(tmp_path):
    pytest.importorskip("matplotlib")
    script = [sys.executable, "-W", "error", str(DOCS / "models" / "figures.py"), "--quick", "--output", str(tmp_path)]
    subprocess.run(script, check=True, timeout=120, capture_output=True)
    for name in ("attention.png", "transformer.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG" and (DOCS / "models" / name).exists()


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n```sh\nls\n```\n<!-- python\ny = 2\n-->\n"
    assert blocks(text) == [(3, "x = 1\n"), (9, "y = 2\n")]
    assert sum("<!-- python" in page.read_text(encoding="utf-8") for page in PAGES) >= 6


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links(page):
    """Figures and pages that are spoken of are there, and a page about a model has a figure."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    if page.parent.name == "models":
        assert re.search(r"!\[[^\]]+\]\([^)]+\)", text), "no figure"
