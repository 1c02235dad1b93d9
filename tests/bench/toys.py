"""Peers for tests: they compute what the reference does, and misbehave in a worker process."""

import os
import sys
import time

import numpy as np

from fastrnn.bench.peers.base import Prepared
from fastrnn.bench.peers.reference import NumPy


class Toy(NumPy):
    name = "toy"
    own_process = True

    def environment(self, threads):
        return {"TOY_THREADS": str(threads)}


class Junk(Toy):
    """Prints where the protocol might be."""

    name = "junk"

    def prepare(self, case, weights, data, threads):
        print("junk " * 10_000)
        os.write(1, b"\x00\xff junk \n" * 10_000)
        sys.__stdout__.flush()
        return super().prepare(case, weights, data, threads)


class Raises(Toy):
    name = "raises"

    def prepare(self, case, weights, data, threads):
        raise RuntimeError(f"no such thing with {os.environ['TOY_THREADS']} threads")


class Dies(Toy):
    name = "dies"

    def prepare(self, case, weights, data, threads):
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)


class DiesLater(Toy):
    """Answers at first."""

    name = "dies_later"

    def prepare(self, case, weights, data, threads):
        prepared, calls = super().prepare(case, weights, data, threads), []

        def run():
            calls.append(0)
            if len(calls) > 8:
                os.kill(os.getpid(), 9)
            return prepared.run()

        return Prepared(run, prepared.arrays)


class Hangs(Toy):
    name = "hangs"

    def prepare(self, case, weights, data, threads):
        time.sleep(60)


class Wrong(Toy):
    name = "wrong"

    def prepare(self, case, weights, data, threads):
        prepared = super().prepare(case, weights, data, threads)
        return Prepared(prepared.run, lambda result: {k: 2 * a for k, a in prepared.arrays(result).items()})


class Tells(Toy):
    """Its y is what it finds in its process."""

    name = "tells"

    def prepare(self, case, weights, data, threads):
        facts = [len(os.sched_getaffinity(0)), int(os.environ["TOY_THREADS"]), "fastrnn._core" in sys.modules]
        return Prepared(lambda: facts, lambda found: {"y": np.array(found, float)})
