"""What holds for the whole code base: rooms, sizes, versions, the README's commands, documented names."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fastrnn"

# ---- rooms

# A room imports from the rooms before it. "fastrnn" stands for the package as users see it.
ROOMS = [
    *(
        "_core",
        "_check",
        "_threads",
        "_info",
        "_one_hot",
        "_random",
        "_variant",
        "reference",
        "_pullback",
        "_call",
        "_attention",
    ),
    *("_threads", "functional", "jit"),
    *("nn", "io", "text", "train", "optim", "models", "fastrnn", "interop", "bench", "cli", "__main__"),
]
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room_of(module: Path) -> str:
    """The room that a module is in."""
    return "fastrnn" if module == Path("__init__.py") else module.parts[0].removesuffix(".py")


def imported_rooms(module: Path) -> set[str]:
    """The rooms of this package that a module imports, at its top or in a function."""
    names = []
    for node in ast.walk(ast.parse((SOURCE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = ["fastrnn", *module.parts][: -node.level] if node.level else []
            names += [[*up, *(node.module or "").split("."), alias.name] for alias in node.names]
    inside = [[part for part in name if part] for name in names if name[0] == "fastrnn"]
    return {name[1] if len(name) > 1 and name[1] in ROOMS else "fastrnn" for name in inside}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module):
    room = room_of(module)
    assert room in ROOMS, f"{module}: give the new room its place in ROOMS"
    for other in imported_rooms(module):
        assert other == room or ROOMS.index(other) < ROOMS.index(room), f"{module} imports from {other}"


def test_kernels_know_neither_python_nor_the_standard_library():
    """What is compiled for several instruction sets must not share code or data between them."""
    allowed = {"cstddef", "cstdint", "cstring", "immintrin.h", "arm_neon.h"}
    for path in sorted((ROOT / "csrc" / "kernels").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"#include <(.+?)>", text)) <= allowed, path.name
        assert not re.search(r"std::(?!mem)", text), path.name  # memcpy and memset are C's
        code = re.sub(r"//.*", "", text)
        for line in re.findall(r"^\s*(?:static|thread_local)\b.*", code, re.MULTILINE):
            assert "constexpr" in line or "(" in line, f"{path.name}: static data: {line.strip()}"
        if path.suffix == ".h":
            assert "#pragma once" in text, path.name


# ---- sizes


def test_long_files_say_why():
    """Up to 400 lines, or a line near the top that says why: "Over 400 lines: …"."""
    kinds = {".py", ".pyx", ".pxi", ".pyi", ".h", ".cpp"}
    folders = [SOURCE, *(ROOT / name for name in ("csrc", "tests", "benchmarks", "examples"))]
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.suffix in kinds):
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > 400:
            assert "ver 400 lines" in "\n".join(lines[:25]), f"{path.relative_to(ROOT)}: {len(lines)} lines"


# ---- versions and commands


def test_one_version():
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert fastrnn.__version__ == version
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert newest == re.sub(r"\.dev\d+$", "", version)


def test_ci_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2, "one trains, one tests"
    assert "fastrnn train" in commands[0]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == commands[1]


def test_ci_runs_what_there_is():
    """Sessions that the workflows name, and groups of the C++ tests that sessions name."""
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)", noxfile, re.MULTILINE))
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    (named,) = re.findall(r"session: \[(.+)\]", workflow)
    assert set(named.split(", ")) <= sessions
    known = set(re.findall(r'^\s+\{"(\w+)", \w+\},$', (ROOT / "tests/ctest/main.cpp").read_text(), re.MULTILINE))
    lists = re.findall(r"groups ?= ?\(([^)]+)\)", noxfile)
    assert len(lists) == 2
    for groups in lists:
        assert set(re.findall(r'"(\w+)"', groups)) <= known


def test_one_limit_of_threads():
    from fastrnn._threads import _MAX_THREADS

    (limit,) = re.findall(r"kMaxThreads = (\d+);", (ROOT / "csrc" / "pool.cpp").read_text(encoding="utf-8"))
    assert int(limit) == _MAX_THREADS
    with pytest.raises(ValueError, match=rf"^n: expected 1 to {limit} threads, got {10**6}$"):
        fastrnn.set_num_threads(10**6)


# ---- what users see


def test_type_checkers_see_what_is_there(tmp_path):
    """What is loaded when it is used is seen, and doesn't make every name of `fr` acceptable."""
    pytest.importorskip("mypy")
    here = [
        "fr.reference.lstm",
        "fr.LSTM",
        "fr.fit",
        "fr.Batch",
        "fr.models.VAE",
        "fr.optim.Adam",
        "fr.schedules.Cosine",
    ]
    missing = ["fr.Lstm", "fr.reference.Lstm", "fr.Fit", "fr.models.Vae"]
    (tmp_path / "code.py").write_text("\n".join(["import fastrnn as fr", *here, *missing]) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", "code.py"]
    environment = {**os.environ, "MYPYPATH": str(SOURCE.parent)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    found = re.findall(r"^code.py:(\d+): error: .*\[attr-defined\]$", result.stdout, re.MULTILINE)
    assert found == [str(2 + len(here) + k) for k in range(len(missing))], result.stdout


DOCUMENTS = [*ROOT.glob("*.md"), *(p for name in ("docs", "examples") for p in (ROOT / name).rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document):
    """Outside blocks of code; addresses with a scheme, and places in the page itself, are not ours to check."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"^\[[^]]+\]:\s*(\S+)", text, re.MULTILINE)
    for link in links:
        if not re.match(r"[a-z][a-z+.-]*:|#", link):
            assert (document.parent / link.partition("#")[0]).exists(), link


BASES = {"Optimizer", "Schedule"}  # what users meet are their subclasses


def is_documented(name, found):
    """Classes and functions; not named tuples, whose fields say it all."""
    if name[0] == "_" or name in BASES or not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    return not (inspect.isclass(found) and issubclass(found, tuple))


def public_names():
    """Every class and function that users are meant to import, with the module it is found in."""
    nn = (fastrnn.nn, fastrnn.activations, fastrnn.init, fastrnn.losses)
    for module in (fastrnn, fastrnn.functional, *nn, fastrnn.optim, fastrnn.models):
        own = [n for n, found in vars(module).items() if getattr(found, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", own):
            found = getattr(module, name)
            if is_documented(name, found):
                yield pytest.param(found, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("thing", public_names())
def test_public_names_have_examples(thing):
    doc = inspect.getdoc(thing) or ""
    assert "Examples\n--------" in doc, "a public name shows how it is used"
    assert ">>>" in doc


def test_stubs_name_what_the_core_has():
    from fastrnn import _core

    stubs = sorted(SOURCE.glob("_core*.pyi"))
    body = [n for stub in stubs for n in ast.parse(stub.read_text(encoding="utf-8")).body]
    promised = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    promised |= {n.target.id for n in body if isinstance(n, ast.AnnAssign) and n.value is None}
    there = {n for n in vars(_core) if not n.startswith("_")} - {"np", "os"}
    assert promised == there
