"""Peers: those who can compute a case, each as its own users would."""

from __future__ import annotations

from collections.abc import Sequence

from fastrnn.bench.peers.base import Peer, Prepared
from fastrnn.bench.peers.ours import FastRNN
from fastrnn.bench.peers.pytorch import PyTorch
from fastrnn.bench.peers.reference import NumPy

__all__ = ["PEERS", "Peer", "Prepared", "choose"]

PEERS: dict[str, Peer] = {peer.name: peer for peer in (FastRNN(), PyTorch(), NumPy())}


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
    missing = {name: PEERS[name].missing() for name in names}
    return (
        [PEERS[name] for name in names if missing[name] is None],
        {name: reason for name, reason in missing.items() if reason is not None},
    )
