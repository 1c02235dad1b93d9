"""Estimators in joblib's workers: each takes the share of the machine that is its worker's."""

import os

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.model_selection import GridSearchCV, cross_validate

import fastrnn as fr
from fastrnn.interop.sklearn import RNNClassifier
from fastrnn.interop.sklearn._threads import threads_of

X = np.random.default_rng(0).standard_normal((24, 5))
Y = (X.sum(1) > 0).astype(int)


def watched(**options):
    """A classifier that notes its threads and its process; made here, so that it travels to workers by value."""

    class Watched(RNNClassifier):
        def _batches(self, examples):
            import os

            import fastrnn as fr

            self.threads_, self.process_ = fr.get_num_threads(), os.getpid()
            return super()._batches(examples)

    return Watched(4, max_iter=1, **options)


def seen(estimator, **how):
    """(threads, processes) of the fits of a cross-validation in two workers."""
    with joblib.parallel_config(n_jobs=2, **how):
        found = cross_validate(estimator, X, Y, cv=4, return_estimator=True, error_score="raise")["estimator"]
    return {one.threads_ for one in found}, {one.process_ for one in found}


@pytest.fixture
def four_threads():
    before = fr.get_num_threads()
    fr.set_num_threads(4)
    yield
    assert fr.get_num_threads() == 4  # whatever ran here put it back
    fr.set_num_threads(before)


def test_processes_share_the_machine(four_threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # joblib hands on what users set
    threads, processes = seen(watched(), backend="loky")
    assert os.getpid() not in processes
    share = max(1, joblib.cpu_count() // 2)
    assert len(threads) == 1 and max(threads) <= share


def test_processes_take_what_joblib_was_told(four_threads, monkeypatch):
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "8")
    threads, processes = seen(watched(), backend="loky", inner_max_num_threads=3)
    assert threads == {3} and os.getpid() not in processes
    assert seen(watched(n_jobs=2), backend="loky", inner_max_num_threads=3)[0] == {2}  # its own parameter counts first


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_other_workers_take_one_thread(backend, four_threads):
    assert joblib.Parallel(2, backend=backend)(joblib.delayed(threads_of)(None) for _ in range(4)) == [1] * 4


def test_fits_in_threads(four_threads):
    assert seen(watched(), backend="threading")[0] == {1}


def test_without_workers_all_threads(four_threads):
    found = cross_validate(watched(), X, Y, cv=2, return_estimator=True)["estimator"]
    assert {one.threads_ for one in found} == {4}
    assert threads_of(None) is None


def test_a_number_that_is_refused_leaves_no_trace(four_threads):
    before = fr.get_num_threads()
    with pytest.raises(ValueError, match=r"^n_jobs: expected 256 threads at most, got 1000000"):
        RNNClassifier(4, max_iter=1, n_jobs=10**6).fit(X, Y)
    assert watched(n_jobs=2).fit(X, Y).threads_ == 2
    assert fr.get_num_threads() == before


def test_all_of_many_cpus(monkeypatch):
    monkeypatch.setattr("fastrnn._info.info", lambda: {"cpus": 384})
    assert threads_of(-1) == 256 and threads_of(-200) == 185


def test_a_search_in_two_processes_finds_what_one_finds():
    searches = [
        GridSearchCV(RNNClassifier(max_iter=3, random_state=0), {"hidden_size": [3, 6]}, cv=2, n_jobs=jobs).fit(X, Y)
        for jobs in (1, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    assert np.array_equal(one, two)
