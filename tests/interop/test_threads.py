"""threadpoolctl: fastrnn is limited and listed, whoever is imported first. Each order runs in a process of its own."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

threadpoolctl = pytest.importorskip("threadpoolctl", minversion="3.2")

import fastrnn as fr  # noqa: E402
from fastrnn import _core  # noqa: E402
from fastrnn._threads import _Finder  # noqa: E402
from fastrnn.interop.threads import FastrnnController  # noqa: E402


@pytest.fixture
def threads():
    """The function that sets the number of threads."""
    before = _core.get_num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)


CHECK = """
import sys
import threadpoolctl
from threadpoolctl import threadpool_info, threadpool_limits

def listed():
    return [library for library in threadpool_info() if library["user_api"] == "fastrnn"]

fr.set_num_threads(7)
assert len(listed()) == 1 and listed()[0]["num_threads"] == 7
with threadpool_limits(2):
    assert fr.get_num_threads() == 2 == listed()[0]["num_threads"]
    with threadpool_limits(1):
        assert fr.get_num_threads() == 1
    assert fr.get_num_threads() == 2
assert fr.get_num_threads() == 7
assert threadpoolctl.__loader__ is threadpoolctl.__spec__.loader
assert type(threadpoolctl.__loader__).__module__ != "fastrnn._threads"
assert not any(type(finder).__module__.startswith("fastrnn") for finder in sys.meta_path)
print("done")
"""


def script(code, *options):
    """Run code in a process of its own, where every warning is an error, and return what it prints."""
    command = [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "imports",
    [
        "import fastrnn as fr; import threadpoolctl",
        "import threadpoolctl; import fastrnn as fr",
        "import fastrnn as fr; import fastrnn.interop.threads",
        "import threadpoolctl; threadpoolctl.threadpool_info(); import fastrnn as fr",  # it keeps what it found
        "from threadpoolctl import *; c = ThreadpoolController(); import fastrnn as fr",
        "import importlib.util as u, fastrnn as fr; u.find_spec('threadpoolctl').loader.path",  # looked for, not loaded
    ],
)
def test_either_order(imports):
    assert script(imports + CHECK) == "done\n"


@pytest.mark.parametrize("imports", ["import fastrnn as fr; import {0}", "import {0}; import fastrnn as fr"])
@pytest.mark.parametrize("library", ["sklearn", "joblib"])
def test_beside_libraries_that_import_it(imports, library):
    pytest.importorskip(library)
    assert script("import warnings; warnings.simplefilter('default')\n" + imports.format(library) + CHECK) == "done\n"


def test_once_in_the_list():
    before = threadpoolctl._ALL_CONTROLLERS.count(FastrnnController)
    assert before == 1
    code = """
        import fastrnn, threadpoolctl, fastrnn.interop.threads as t
        print(threadpoolctl._ALL_USER_APIS.count("fastrnn"), threadpoolctl._ALL_CONTROLLERS.count(t.FastrnnController))
    """
    assert script(code) == "1 1\n"


def test_threads_that_import_at_once():
    code = """
        import importlib, threading
        start = threading.Barrier(2)
        def load(name):
            start.wait()
            importlib.import_module(name)
        both = [threading.Thread(target=load, args=(name,)) for name in ("fastrnn", "threadpoolctl")]
        for one in both:
            one.start()
        for one in both:
            one.join()
        import fastrnn as fr, threadpoolctl
        with threadpoolctl.threadpool_limits(1):
            print(fr.get_num_threads(), sum(i["user_api"] == "fastrnn" for i in threadpoolctl.threadpool_info()))
    """
    for _ in range(3):
        assert script(code) == "1 1\n"


def test_its_command_lists_it():
    command = [sys.executable, "-m", "threadpoolctl", "-i", "fastrnn"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert '"user_api": "fastrnn"' in done.stdout


def test_what_is_limited(threads):
    threads(5)
    limits = threadpoolctl.threadpool_limits
    with limits(1, user_api="blas"):
        assert fr.get_num_threads() == 5
    with limits(1, user_api="fastrnn"):
        assert fr.get_num_threads() == 1
    with limits({"fastrnn": 2}):
        assert fr.get_num_threads() == 2
    with limits({"blas": 1}):
        assert fr.get_num_threads() == 5
    with limits(None):
        assert fr.get_num_threads() == 5
    with pytest.raises(RuntimeError, match="stop"), limits(1):  # also when something fails inside
        raise RuntimeError("stop")
    assert fr.get_num_threads() == 5
    controller = threadpoolctl.ThreadpoolController().select(user_api="fastrnn")
    with controller.limit(limits=3):
        assert fr.get_num_threads() == 3

    @controller.wrap(limits=2)
    def inside():
        return fr.get_num_threads()

    assert inside() == 2 and fr.get_num_threads() == 5


def test_what_is_listed():
    (found,) = threadpoolctl.ThreadpoolController().select(user_api="fastrnn").lib_controllers
    facts = found.info()
    assert facts["internal_api"] == facts["user_api"] == "fastrnn"
    assert facts["filepath"] == _core.__file__ and facts["prefix"] == "_core"
    assert facts["version"] == fr.__version__ and facts["architecture"] == fr.info()["isa"]
    assert facts["num_threads"] == fr.get_num_threads()


def test_another_librarys_core_is_not_ours(tmp_path):
    """Many packages have a `_core`; ours is known by its functions."""
    import numpy.linalg

    folder = Path(numpy.linalg.__file__).parent
    (source,) = [path for path in folder.glob("lapack_lite.*") if path.suffix != ".pyi"]
    other = tmp_path / source.name.replace("lapack_lite", "_core")
    shutil.copy(source, other)
    code = f"""
        import ctypes, fastrnn, threadpoolctl
        ctypes.CDLL({str(other)!r})
        print([i["filepath"] for i in threadpoolctl.threadpool_info() if i["prefix"] == "_core"])
    """
    assert script(code) == f"[{_core.__file__!r}]\n"


def test_an_old_threadpoolctl_is_said_to_be_too_old(tmp_path):
    """It has no `register`. Importing it works, and says to those who listen why its limits don't reach fastrnn."""
    (tmp_path / "threadpoolctl.py").write_text("__version__ = '3.1.0'\nclass LibController: ...\n")
    code = f"""
        import sys, warnings
        sys.path.insert(0, {str(tmp_path)!r})
        import fastrnn
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            import threadpoolctl
        assert threadpoolctl.__version__ == "3.1.0"
        print([(w.category.__name__, str(w.message)) for w in said])
        try:
            import fastrnn.interop.threads
        except ImportError as error:
            print(error)
    """
    message = (
        "threadpoolctl 3.1.0 takes no further libraries, and its limits don't reach fastrnn: "
        "pip install 'threadpoolctl>=3.2'"
    )
    assert script(code) == f"[('ImportWarning', {message!r})]\n{message}\n"


def test_the_finder_waits_for_one_name(monkeypatch):
    """It has no opinion on other modules, nor on a threadpoolctl that isn't there."""
    finder = _Finder()
    assert finder.find_spec("numpy") is None
    monkeypatch.setattr(sys, "meta_path", [finder])
    assert finder.find_spec("threadpoolctl") is None
