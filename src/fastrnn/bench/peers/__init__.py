"""Peers: those who can compute a case, each as its own users would."""

from __future__ import annotations

from collections.abc import Sequence

from fastrnn.bench.peers.base import Peer, Prepared
from fastrnn.bench.peers.jax_scan import JAX
from fastrnn.bench.peers.keras_layers import Keras
from fastrnn.bench.peers.ort import ONNXRuntime
from fastrnn.bench.peers.ours import FastRNN
from fastrnn.bench.peers.pytorch import PyTorch
from fastrnn.bench.peers.reference import NumPy
from fastrnn.bench.remote import RemotePeer, python_of

__all__ = ["PEERS", "Peer", "Prepared", "choose", "here"]

PEERS: dict[str, Peer] = {peer.name: peer for peer in (FastRNN(), PyTorch(), ONNXRuntime(), JAX(), Keras(), NumPy())}


def here(name: str) -> Peer:
    """Return a peer as it runs here: in this process, or in a worker of the Python that was chosen for it."""
    peer, python = PEERS[name], python_of(name)
    return RemotePeer(peer, python) if python is not None or peer.own_process else peer


def choose(names: Sequence[str] | None = None) -> tuple[list[Peer], dict[str, str]]:
    """Return the installed peers of these names (None for all), and why the others are left out.

    Examples
    --------
    >>> peers, skipped = choose(["fastrnn", "numpy"])
    >>> [peer.name for peer in peers], skipped
    (['fastrnn', 'numpy'], {})
    """
    names = list(PEERS) if names is None else list(names)
    if unknown := [name for name in names if name not in PEERS]:
        raise ValueError(f"peers: expected some of {', '.join(PEERS)}, got {', '.join(unknown)}")
    found = [here(name) for name in names]
    missing = {peer.name: peer.missing() for peer in found}
    return (
        [peer for peer in found if missing[peer.name] is None],
        {name: reason for name, reason in missing.items() if reason is not None},
    )
