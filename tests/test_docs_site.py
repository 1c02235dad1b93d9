"""The documentation site: each page has its place, each public name its entry, and Sphinx finds nothing to say."""

import fnmatch
import functools
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
import fastrnn.bench
from tests.test_examples import EXAMPLES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = ("api/generated/", "api/interop", "examples/", "sg_execution_times", "_build/")  # when the site is built
PAGES = sorted(
    name
    for path in DOCS.rglob("*")
    if path.suffix in {".md", ".rst"} and not (name := path.relative_to(DOCS).as_posix()).startswith((*MADE, "_"))
)
LIBRARIES = ("sphinx", "numpydoc", "myst_parser", "sphinx_gallery", "sphinx_design", "sphinx_copybutton", "furo")
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$|^\.\. toctree::\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def entries(page):
    """What the toctrees of a page name, from the root of the pages."""
    for found in TOCTREE.finditer((DOCS / page).read_text(encoding="utf-8")):
        lines = [line.strip() for line in (found[1] or found[2]).splitlines()]
        yield from (str(Path(page).parent / line) for line in lines if line and not line.startswith(":"))


def test_every_page_is_in_a_toctree():
    named = [entry for page in PAGES for entry in entries(page)]
    assert len(named) > 30
    for page in PAGES:
        name = page.rpartition(".")[0]
        assert name == "index" or any(fnmatch.fnmatch(name, entry) for entry in named), f"{page}: in no toctree"
    for entry in named:  # and what is named is there
        exists = any(fnmatch.fnmatch(page.rpartition(".")[0], entry) for page in PAGES)
        assert exists or entry.startswith(MADE), f"{entry}: no such page"


@functools.cache
def described():
    """Name: object, of all that the pages of the reference describe."""
    found = {}
    for path in (DOCS / "api").glob("*.rst"):
        if path.name == "interop.rst":
            continue  # made by a build, of the libraries that it found
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^(?:   |\.\. auto\w+:: )(fastrnn\.[\w.]+)$", text, re.MULTILINE):
            thing = fastrnn
            for part in name.split(".")[1:]:
                thing = getattr(thing, part)  # an AttributeError here: the page describes what isn't there
            found[name] = thing
    return found


def public_names():
    spaces = "nn functional losses optim models train text jit reference ops activations init schedules io bench"
    for space in [fastrnn, *(getattr(fastrnn, name) for name in spaces.split())]:
        own = [name for name, thing in vars(space).items() if getattr(thing, "__module__", "") == space.__name__]
        for name in getattr(space, "__all__", own):
            thing = getattr(space, name)
            if name[0] != "_" and (inspect.isclass(thing) or inspect.isroutine(thing)):
                yield f"{space.__name__}.{name}", thing


def test_every_public_name_is_in_the_reference():
    known = {id(thing) for thing in described().values()}
    missing = [name for name, thing in public_names() if id(thing) not in known]
    private = {"fastrnn.nn.losses.Variable"}
    assert set(missing) <= private, f"docs/api/*.rst lack {sorted(set(missing) - private)}"


def test_nothing_is_described_twice():
    """Links would not know where to lead."""
    pages = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES if page.startswith("api/"))
    tables = re.findall(r"^   (fastrnn\.[\w.]+)$", pages, re.MULTILINE)
    assert len(tables) == len(set(tables)) > 250
    for name in re.findall(r"^\.\. auto\w+:: (fastrnn\.[\w.]+)$", pages, re.MULTILINE):
        assert name in tables, f"{name} is in no table"


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_gallery_has_what_examples_print(script):
    text = script.read_text(encoding="utf-8")
    title, line = text.removeprefix('"""').splitlines()[:2]
    assert re.fullmatch("=+", line) and len(line) >= len(title) <= 70, "a title, underlined"
    printed = (DOCS / "gallery" / f"{script.stem}.txt").read_text(encoding="utf-8")
    assert printed.strip(), f"python docs/gallery/collect.py {script.stem}"
    assert "/tmp" not in printed, "paths of the machine that it ran on"
    if re.search(r'"--(?:output|plot)"', text):
        assert any((DOCS / folder / f"{script.stem}.png").exists() for folder in ("gallery", "models", "interop"))


def test_pages_ask_nothing_of_other_servers():
    """No script, style, font or image from elsewhere; links are for readers to follow."""
    for path in [*DOCS.rglob("*.css"), *DOCS.rglob("*.svg"), *DOCS.rglob("*.html"), DOCS / "conf.py"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:src=|url\(|@import|href=.[^>]*stylesheet|_path = )[\"'\s]*(?:https?:)?//", text), path
    for page in PAGES:
        assert not re.search(r"!\[[^\]]*\]\(https?:", (DOCS / page).read_text(encoding="utf-8")), page


def test_sphinx_has_nothing_to_say(tmp_path):
    """Reads all pages and docstrings and resolves their references, in a copy; nothing is written as HTML."""
    for library in LIBRARIES:
        pytest.importorskip(library)
    made = shutil.ignore_patterns("generated", "examples", "_build", "interop.rst", "__pycache__", "speed-*.svg")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=made)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "benchmarks").mkdir()
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dummy", "docs", "made"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
