"""The pytest fixture `peer_benchmark`: pytest-benchmark's timing of a case or of anything else, on several sides
whose results are compared first. It needs pytest and pytest-benchmark (``pip install 'fastrnn[bench]'``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fastrnn.bench.agree import TOLERANCES, Disagreement, check, difference
from fastrnn.bench.cases import Case
from fastrnn.bench.layers import prepare
from fastrnn.bench.peers import PEERS, Prepared
from fastrnn.bench.timing import SideError, TimesItself

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PeerBenchmark", "peer_benchmark"]

# A side in a worker process: seconds of a round, of all rounds, and the fewest rounds.
ROUND_SECONDS, ALL_SECONDS, LEAST_ROUNDS = 0.02, 1.0, 5
Own = Callable[..., Any]


class _Clock:
    """The timer of a side that is timed elsewhere: it goes on by what that side says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class PeerBenchmark:
    """What the fixture `peer_benchmark` gives: benchmark one side, after comparing what it computes.

    Make one test for each side, and pytest-benchmark shows them beside each other in one group.

    Examples
    --------
    In ``conftest.py``::

        from fastrnn.bench import peer_benchmark  # noqa: F401

    A shape of your own, beside the peers that are installed (others are skipped)::

        @pytest.mark.parametrize("side", ["fastrnn", "torch", "jax"])
        def test_my_shape(peer_benchmark, side):
            peer_benchmark(side, Case("gru", Shape(T=80, B=16, I=40, H=200)), threads=2)

    A layer of your own among them. It is made from the case's weights and data, and what its call returns is
    compared with what fastrnn computes: `y`, or a tuple that begins with it, or a dict of named arrays::

        def mine(case, weights, data, threads):
            layer = MyLSTM(weights)
            return lambda: layer(data.x)

        @pytest.mark.parametrize("side", ["fastrnn", "torch", "mine"])
        def test_my_layer(peer_benchmark, side):
            peer_benchmark(side, Case("lstm", Shape(80, 16, 40, 200), "infer"), own={"mine": mine})

    Anything else that two functions compute::

        @pytest.mark.parametrize("side", ["fused", "plain"])
        def test_model(peer_benchmark, side):
            peer_benchmark.calls(side, {"plain": plain_model, "fused": fused_model})
    """

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark

    def __call__(
        self,
        side: str,
        case: Case,
        *,
        threads: int = 1,
        own: Mapping[str, Own] | None = None,
        group: str | None = None,
    ) -> None:
        """Benchmark a case on one side.

        Parameters
        ----------
        side : str
            A peer's name, or one of `own`. The test is skipped when it isn't installed or declines the case.
        case : Case
        threads : int
        own : dict, optional
            Name: function of ``(case, weights, data, threads)`` that prepares the case and returns what to time,
            a function or a `Prepared`.
        group : str, optional
            Instead of the case's text.

        Raises
        ------
        Disagreement
            The side computes something else than fastrnn.
        """
        own = own or {}
        if side not in own and side not in PEERS:
            raise ValueError(f"side: expected one of {', '.join([*PEERS, *own])}, got {side!r}")
        peers = ["fastrnn"] if side == "fastrnn" or side in own else ["fastrnn", side]
        try:
            sides = prepare(case, peers, threads)
        except SideError as error:
            pytest.skip(str(error))
        if side in own:
            run, differences = _prepare_own(side, own[side], case, threads)
        elif side not in sides.runs:
            pytest.skip(sides.skipped[side])
        else:
            run, differences = sides.runs[side], sides.differences
        info = {"peer": side, "threads": threads, "flops": case.flops, "difference": differences.get(side, 0.0)}
        benchmark = self._time(run, group or f"{case}, {threads} thread{'s' * (threads != 1)}", info)
        if benchmark.stats:  # there are none with --benchmark-disable
            benchmark.extra_info["gflops"] = case.flops / benchmark.stats.stats.median / 1e9

    def calls(
        self,
        side: str,
        sides: Mapping[str, Callable[[], Any]],
        *,
        dtype: str = "float32",
        tolerance: float | None = None,
        group: str | None = None,
    ) -> None:
        """Benchmark one of several functions that compute the same.

        Parameters
        ----------
        side : str
            Which one.
        sides : dict
            Name: function without arguments. What it returns (an array or a number, or tuples, lists and dicts of
            them) is compared with what the first one returns.
        dtype : {"float32", "float64"}
            Gives the tolerance: a relative 1e-5 or 1e-12.
        tolerance : float, optional
            Another one.
        group : str, optional
            Instead of the test's name.

        Raises
        ------
        Disagreement
            The side returns something else than the first.
        """
        if side not in sides:
            raise ValueError(f"side: expected one of {', '.join(sides)}, got {side!r}")
        limit = TOLERANCES[dtype][0] if tolerance is None else tolerance
        first = next(iter(sides))
        expected, found = dict(_leaves(sides[first]())), dict(_leaves(sides[side]()))
        gaps = {name: difference(expected[name], found[name]) for name in expected.keys() & found.keys()}
        wrong = [f"{name} (only one side has it)" for name in sorted(expected.keys() ^ found.keys())]
        wrong += [f"{name} ({gap:.2g}, expected <= {limit:g})" for name, gap in gaps.items() if not gap <= limit]
        if wrong:
            raise Disagreement(f"{side} differs from {first} in {', '.join(wrong)}")
        test = getattr(self._request.node, "originalname", None) or self._request.node.name
        self._time(sides[side], group or test, {"peer": side, "difference": max(gaps.values(), default=0.0)})

    def _time(self, run: Callable[[], Any], group: str, info: Mapping[str, Any]) -> Any:
        benchmark = self._benchmark
        benchmark.group = group
        benchmark.extra_info.update(info)
        if isinstance(run, TimesItself):
            self._time_elsewhere(run)
        else:
            benchmark(run)
        return benchmark

    def _time_elsewhere(self, run: TimesItself) -> None:
        """Let pytest-benchmark count the seconds that a worker process has measured.

        It takes a timer from a marker only, and reads that before a fixture like this one can know which side
        runs: hence the private name.
        """
        clock = self._benchmark._timer = _Clock()
        spent = min(run.timed(1, True), run.timed(1, True))
        calls = max(1, int(ROUND_SECONDS / spent))
        rounds = max(LEAST_ROUNDS, math.ceil(ALL_SECONDS / (calls * spent)))

        def turn() -> None:
            clock.now += run.timed(calls, True)

        self._benchmark.extra_info["calls_a_round"] = calls
        self._benchmark.pedantic(turn, rounds=rounds)


def _prepare_own(name: str, build: Own, case: Case, threads: int) -> tuple[Callable[[], Any], dict[str, float]]:
    """What a user's own side computes, compared with fastrnn's in the arrays that it gives."""
    weights, data = case.weights(), case.data()
    expected = PEERS["fastrnn"].prepare(case, weights, data, threads).results(case)
    made = build(case, weights, data, threads)
    prepared = made if isinstance(made, Prepared) else Prepared(made, _named)
    found = prepared.results(case)
    if not found.keys() & expected.keys():
        raise ValueError(f"own: {name} returns none of {', '.join(expected)}")
    same = {key: expected[key] for key in expected if key in found}
    return prepared.run, check({"fastrnn": same, name: found}, case.dtype, str(case))


def _named(result: Any) -> dict[str, NDArray[Any]]:
    """Arrays under their names; a lone one, and the first of a tuple, is y."""
    if isinstance(result, Mapping):
        return {key: np.asarray(array) for key, array in result.items()}
    return {"y": np.asarray(result[0] if isinstance(result, (tuple, list)) else result)}


def _leaves(result: Any, name: str = "result") -> Sequence[tuple[str, NDArray[Any]]]:
    """Every array in a result, under the path to it."""
    if isinstance(result, Mapping):
        return [leaf for key, part in result.items() for leaf in _leaves(part, f"{name}[{key!r}]")]
    if isinstance(result, (tuple, list)):
        return [leaf for k, part in enumerate(result) for leaf in _leaves(part, f"{name}[{k}]")]
    return [(name, np.array(result))]


@pytest.fixture
def peer_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> PeerBenchmark:
    """Benchmark one side after comparing what it computes; see `PeerBenchmark`."""
    return PeerBenchmark(request, benchmark)
