"""Every check of the project: ``nox`` runs the usual ones, ``nox --list`` shows all, ``nox -s NAME`` one.

The sessions that build C++ want CMake and a compiler; what else they need is said in each one's first line.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
ROOT = Path(__file__).parent
CPP = ["csrc", "tests/ctest"]
CYTHON = [str(p) for p in sorted((ROOT / "src" / "fastrnn").iterdir()) if p.suffix in {".pyx", ".pxi"}]


def cpp_files() -> list[str]:
    """All C++ sources."""
    return sorted(str(p) for folder in CPP for p in (ROOT / folder).rglob("*") if p.suffix in {".h", ".cpp"})


# ---- Python


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Install, and run the test suite with one version of Python."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the suite with the oldest NumPy that is supported (built against the newest); Python up to 3.12."""
    session.install(".[test]", "numpy==1.26.*")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types of everything: ruff, mypy, cython-lint, clang-format."""
    session.install("ruff", "mypy", "cython-lint", "clang-format==18.1.8", "numpy>=2", "nox")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("cython-lint", *CYTHON)
    session.run("clang-format", "--dry-run", "--Werror", *cpp_files(), silent=True)


@nox.session
def format(session: nox.Session) -> None:
    """Put everything into style."""
    session.install("ruff", "clang-format==18.1.8")
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")
    session.run("clang-format", "-i", *cpp_files(), silent=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, beside the peers that are named: ``nox -s bench -- --with torch onnxruntime``."""
    args = list(session.posargs)
    peers: list[str] = []
    if "--with" in args:
        at = args.index("--with")
        args, peers = args[:at], args[at + 1 :]
    session.install(".[bench]", *peers)
    session.run("python", "-m", "pytest", "benchmarks", *args)


@nox.session
def package(session: nox.Session) -> None:
    """Build the source archive, build the wheel from it in a folder without git, install that and try it."""
    session.install("build")
    work = Path(session.create_tmp()).absolute()
    shutil.rmtree(work / "dist", ignore_errors=True)
    shutil.rmtree(work / "source", ignore_errors=True)
    session.run("python", "-m", "build", "--sdist", "--outdir", str(work / "dist"))
    (archive,) = (work / "dist").glob("fastrnn-*.tar.gz")
    shutil.unpack_archive(archive, work / "source")
    (source,) = (work / "source").iterdir()
    # git isn't found on this PATH, nor a repository above the folder
    session.run(
        "python",
        "-m",
        "build",
        "--wheel",
        "--outdir",
        str(work / "dist"),
        str(source),
        env={"GIT_DIR": os.devnull},
    )
    (wheel,) = (work / "dist").glob("fastrnn-*.whl")
    session.run("python", "-m", "zipfile", "-l", str(wheel))
    session.install("--force-reinstall", str(wheel))
    with session.chdir(work):
        session.run("python", str(ROOT / "tests" / "smoke.py"))
        session.run("fastrnn", "info")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/site, warnings being errors: ``nox -s docs -- --open`` shows it."""
    args = [arg for arg in session.posargs if arg != "--open"]
    session.install(".[docs]")
    # afresh: pages made from docstrings that are gone would stay
    for made in (ROOT / "docs" / "api" / "generated", ROOT / "docs" / "examples"):
        shutil.rmtree(made, ignore_errors=True)
    site = ROOT / "build" / "site"
    session.run("python", "-m", "sphinx", "-E", "-W", "--keep-going", *args, str(ROOT / "docs"), str(site))
    if "--open" in session.posargs:
        session.run("python", "-m", "webbrowser", (site / "index.html").as_uri())


# ---- C++, without Python


def ctest(
    session: nox.Session,
    *options: str,
    groups: tuple[str, ...] = (),
    runner: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> None:
    """Build the C++ test program with CMake `options`, and run it."""
    build = Path(session.create_tmp()) / "build"
    program = ("-DFASTRNN_PYTHON=OFF", "-DFASTRNN_CTEST=ON", "-DFASTRNN_WERROR=ON")
    session.run_install("cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *program, *options)
    session.run_install("cmake", "--build", str(build), "--parallel", os.environ.get("JOBS", "2"))
    session.run(*runner, str(build / "fastrnn_ctest"), *(session.posargs or groups), external=True, env=env)


@nox.session
def gcc(session: nox.Session) -> None:
    """Build without a warning with GCC, and run the C++ tests."""
    session.install("cmake", "ninja")
    ctest(session, "-DCMAKE_CXX_COMPILER=g++")


@nox.session
def clang(session: nox.Session) -> None:
    """Build without a warning with Clang (CLANGXX, by default clang++), and run the C++ tests."""
    session.install("cmake", "ninja")
    ctest(session, f"-DCMAKE_CXX_COMPILER={os.environ.get('CLANGXX', 'clang++')}")


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install("cmake", "ninja")
    ctest(session, "-DFASTRNN_SANITIZE=address,undefined")


@nox.session
def tsan(session: nox.Session) -> None:
    """Run those C++ tests that use threads under ThreadSanitizer."""
    session.install("cmake", "ninja")
    # a fork from a program with threads is what the group `forked` is about
    ctest(session, "-DFASTRNN_SANITIZE=thread", groups=("pool", "workspace", "threads", "one_hot", "stacks", "forked",
                   "trees", "word2vec", "attention", "decoder_threads", "search_threads", "scans"),
          env={"TSAN_OPTIONS": "die_after_fork=0 halt_on_error=1"})  # fmt: skip


@nox.session
def neon(session: nox.Session) -> None:
    """Cross-compile for aarch64 and emulate it (Debian: g++-aarch64-linux-gnu, qemu-user)."""
    session.install("cmake", "ninja")
    groups = ("dispatch", "vmath", "gemm", "ops", "attention", "recurrent", "one_hot", "rows", "streams", "stacks",
              "threads", "workspace", "pool", "word2vec", "trees", "decoder", "decoder_threads", "search",
              "search_threads", "scans")  # fmt: skip
    # not `forked`: QEMU itself fails when a forked child starts a thread
    ctest(session, "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
          "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", groups=groups,
          runner=("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"))  # fmt: skip
