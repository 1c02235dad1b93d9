"""Ranks that are threads of this process, with what `fr.fit(..., comm=)` needs of a communicator and no more.

A collective call that isn't the same on all ranks, in kind and order, is an error here; MPI would hang or mix up data.
"""

import copy
import threading
import time

import numpy as np

SECONDS = 60.0  # until a rank that waits gives up


class Aborted(BaseException):
    """Another rank called Abort."""


class Request:
    def __init__(self, comm, key, done):
        self.comm, self.key, self.done = comm, key, done

    def Test(self):
        if self.done is not None:
            values = self.comm.world.ready(self.key)
            if values is None:
                return False
            self.done(values)
            self.done = None
        return True

    def Wait(self):
        begin = time.monotonic()
        while not self.Test():
            time.sleep(1e-4)
            assert time.monotonic() - begin < SECONDS, f"rank {self.comm.rank} waits for {self.key}"


class World:
    def __init__(self, size):
        self.size, self.lock, self.posted, self.aborted = size, threading.Lock(), {}, None

    def post(self, comm, kind, value):
        with self.lock:
            entry = self.posted.setdefault(comm.calls, {})
            entry[comm.rank] = (kind, value)
            kinds = {kind for kind, _ in entry.values()}
            if len(kinds) > 1:
                self.aborted = f"call {comm.calls}: {kinds}"
            comm.calls += 1
            return comm.calls - 1

    def ready(self, key):
        if self.aborted is not None:
            raise Aborted(self.aborted)
        with self.lock:
            entry = self.posted[key]
            return [entry[rank][1] for rank in range(self.size)] if len(entry) == self.size else None


class Comm:
    """The communicator of one rank."""

    def __init__(self, world, rank):
        self.world, self.rank, self.calls, self.sent = world, rank, 0, 0

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.world.size

    def _call(self, kind, value, done):
        return Request(self, self.world.post(self, kind, value), done)

    def allgather(self, value):
        found = []
        self._call("allgather", copy.deepcopy(value), found.extend).Wait()
        return copy.deepcopy(found)

    def bcast(self, value, root=0):
        return self.allgather(value if self.rank == root else None)[root]

    def Bcast(self, array, root=0):
        array[...] = self.allgather(array.copy() if self.rank == root else None)[root]

    def Iallreduce(self, sent, received):
        assert sent.flags.c_contiguous and sent.dtype == received.dtype and sent.shape == received.shape
        self.sent += sent.nbytes

        def done(values):
            received[...] = np.sum(values, axis=0, dtype=received.dtype)

        return self._call(f"allreduce {sent.dtype} {sent.shape}", sent.copy(), done)

    def Ialltoall(self, sent, received):
        self.sent += sent.nbytes
        parts = np.split(sent.copy(), self.world.size)

        def done(values):
            received[...] = np.concatenate([value[self.rank] for value in values])

        return self._call(f"alltoall {sent.dtype} {sent.shape}", parts, done)

    def Iallgather(self, sent, received):
        def done(values):
            received[...] = np.concatenate(values)

        return self._call(f"allgather {sent.dtype} {sent.shape}", sent.copy(), done)

    def Abort(self, code=1):
        self.world.aborted = f"rank {self.rank} called Abort({code})"


def run(size, function):
    """Call `function(comm)` on so many ranks; return their results, or raise the first error."""
    world = World(size)
    results, errors = [None] * size, [None] * size

    def target(rank):
        try:
            results[rank] = function(Comm(world, rank))
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=target, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = [error for error in errors if error is not None and not isinstance(error, Aborted)]
    if real:
        real[0].all = errors
        raise real[0]
    if any(errors):
        raise AssertionError(world.aborted)
    return results
