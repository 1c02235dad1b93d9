"""A picture of many comparisons: how many times faster than each peer, by cell and shape."""

from __future__ import annotations

import datetime
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrnn.bench import summary, targets
from fastrnn.bench.layers import Comparison
from fastrnn.bench.peers import PEERS

__all__ = ["check", "draw", "save"]

# Okabe and Ito's colours, which colour-blind people can tell apart; shapes of the marks help too.
STYLES = {
    "torch": ("#D55E00", "o"),
    "ort": ("#0072B2", "s"),
    "jax": ("#009E73", "D"),
    "keras": ("#CC79A7", "^"),
    "numpy": ("#7F7F7F", "v"),
}
OTHERS = [("#E69F00", "P"), ("#56B4E9", "X"), ("#000000", "*")]
INK, PALE = "#222222", "#8A8A8A"
MODES = {"train": "training step", "infer": "inference", "step": "one time step"}
KINDS = (".png", ".svg", ".pdf")
TICKS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
MOST_TICKS = 6
Panel = list[tuple[str, dict[str, float]]]  # a line: its name, and peer: ratio


def check(path: str | os.PathLike[str]) -> None:
    """Find out, before anything is measured, whether a picture can be written.

    Raises
    ------
    ValueError
        The name has another ending than .png, .svg or .pdf, or it can't be written there.
    ImportError
        matplotlib isn't installed.
    """
    file = Path(path)
    if file.suffix not in KINDS:
        raise ValueError(f"--plot: expected a name that ends in {', '.join(KINDS)}, got {str(path)!r}")
    targets.check(file, "--plot")
    _figure_class()


def _figure_class() -> Any:
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'fastrnn[cli]'") from error


def save(comparisons: Sequence[Comparison], facts: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw, and write the picture."""
    draw(comparisons, facts).savefig(path, facecolor="white")


def _title(c: Comparison) -> str:
    threads = f"{c.threads} thread{'s' * (c.threads != 1)}"
    return ", ".join([MODES[c.case.mode], threads, *([c.case.dtype] if c.case.dtype != "float32" else [])])


def _name(c: Comparison) -> str:
    """The shape, and what else the case has, in few characters."""
    T, B, I, H = map(str, c.case.shape)
    sizes = [] if c.case.mode == "step" else [f"T {T}"]
    sizes += [f"B {B}", f"{I}→{H}"]
    if c.case.num_layers > 1:
        sizes.append(f"×{c.case.num_layers}")
    if c.case.bidirectional:
        sizes.append("bidir.")
    if c.case.lengths is not None:
        sizes.append("ragged")
    return "  ".join(sizes)


def draw(comparisons: Sequence[Comparison], facts: dict[str, Any]) -> Any:
    """Draw a panel for each cell, and a row of panels for each mode, type and number of threads.

    Returns
    -------
    matplotlib.figure.Figure
    """
    new = _figure_class()
    panels: dict[str, dict[str, Panel]] = {}
    for c in comparisons:
        found = {peer: ratio for peer, ratio in summary.ratios(c).items() if peer != summary.BEST}
        if found:
            panels.setdefault(_title(c), {}).setdefault(c.case.cell.upper(), []).append((_name(c), found))
    cells = list(dict.fromkeys(cell for row in panels.values() for cell in row))
    names = [name for row in panels.values() for panel in row.values() for name, _ in panel]
    peers = [peer for peer in PEERS if any(peer in r for row in panels.values() for p in row.values() for _, r in p)]
    if len(set(names)) == 1:  # one shape: a line for each peer says more
        panels = {title: {cell: _by_peer(panel) for cell, panel in row.items()} for title, row in panels.items()}
    lines = [max(len(panel) for panel in row.values()) for row in panels.values()]
    left = 0.35 + 0.078 * max((len(name) for row in panels.values() for p in row.values() for name, _ in p), default=0)
    width = max(9.0, left + 3.4 * max(len(cells), 1))
    heights = [0.36 * max(n, 2) + 0.95 for n in lines] or [1.0]
    top, bottom = 1.15, 0.3
    height = sum(heights) + top + bottom
    figure = new(figsize=(width, height), dpi=160)
    _words(figure, facts, peers, names, width, height)
    ratios = [r for row in panels.values() for panel in row.values() for _, found in panel for r in found.values()]
    limits = min([0.8, *(r / 1.35 for r in ratios)]), max([4.0, *(r * 1.5 for r in ratios)])
    y = height - top
    for (title, row), tall in zip(panels.items(), heights, strict=False):
        figure.text(0.18 / width, (y + 0.02) / height, title, fontsize=11, color=INK, weight="bold", va="center")
        for k, cell in enumerate(cells):
            span = (width - left - 0.25) / len(cells)
            box = [(left + k * span) / width, (y - tall + 0.62) / height, (span - 0.22) / width, (tall - 0.92) / height]
            if cell in row:
                _panel(figure.add_axes(box), cell, row[cell], limits, first=k == 0)
        y -= tall
    return figure


def _by_peer(panel: Panel) -> Panel:
    return [(_style(peer)[2], {peer: ratio}) for peer, ratio in panel[0][1].items()]


def _style(peer: str) -> tuple[str, str, str]:
    """Colour, mark and title of a peer."""
    if peer in STYLES:
        return (*STYLES[peer], PEERS[peer].title)
    color, mark = OTHERS[sum(map(ord, peer)) % len(OTHERS)]
    return color, mark, PEERS[peer].title if peer in PEERS else peer


def _words(
    figure: Any, facts: dict[str, Any], peers: Sequence[str], names: list[str], width: float, high: float
) -> None:
    """Headline, the peers in their colours, and the machine in small print."""
    shape = f", {names[0].replace('  ', ' ')}" if len(set(names)) == 1 else ""
    text = f"How many times faster fastrnn is{shape}"
    figure.text(0.18 / width, 1 - 0.32 / high, text, fontsize=15, weight="bold", color=INK, va="center")
    x = 0.18
    for peer in peers:
        color, mark, title = _style(peer)
        figure.add_artist(_marker(color, mark, (x + 0.07) / width, 1 - 0.68 / high))
        figure.text((x + 0.2) / width, 1 - 0.68 / high, f"than {title}", fontsize=10.5, color=color, va="center")
        x += 0.5 + 0.088 * len(f"than {title}")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    date = datetime.date.today().isoformat()
    where = f"{facts['cpu']}, {facts['isa']}, {date}. Medians of turns, same weights, results compared first."
    for y, small in ((0.33, where), (0.17, versions)):
        figure.text(0.18 / width, y / high, small, fontsize=6.5, color=PALE, va="center")


def _marker(color: str, mark: str, x: float, y: float) -> Any:
    lines = importlib.import_module("matplotlib.lines")
    return lines.Line2D([x], [y], marker=mark, color=color, markersize=7, linestyle="none", markeredgecolor="white")


def _panel(axes: Any, cell: str, panel: Panel, limits: tuple[float, float], *, first: bool) -> None:
    """A line for each shape: a mark for each peer, and the ratio to the best one in figures."""
    effects = importlib.import_module("matplotlib.patheffects")
    axes.set_xscale("log")
    axes.set_xlim(limits)
    axes.set_ylim(len(panel) - 0.45, -0.55)
    axes.axvspan(limits[0], 1, color="#F3E3DC", linewidth=0, zorder=0)
    axes.axvline(1, color=INK, linewidth=1.1, zorder=1)
    for y, (_, found) in enumerate(panel):
        low, high = min(found.values()), max(found.values())
        axes.plot([min(low, 1), high], [y, y], color="#D8D8D8", linewidth=1.6, zorder=1, solid_capstyle="round")
        for peer, ratio in sorted(found.items(), key=lambda item: -item[1]):
            color, mark, _ = _style(peer)
            axes.plot([ratio], [y], mark, color=color, markersize=7.5, markeredgecolor="white", zorder=3)
        label = f"{low:.2f}×" if low < 0.995 else f"{low:.1f}×" if low < 9.95 else f"{low:.0f}×"
        text = axes.annotate(label, (low, y), (0, 5.5), textcoords="offset points", ha="center", fontsize=7.5)
        text.set(color=INK, zorder=4, path_effects=[effects.withStroke(linewidth=2.2, foreground="white")])
    ticks = [t for t in TICKS if limits[0] <= t <= limits[1]]
    if len(ticks) > MOST_TICKS:
        ticks = [t for t in ticks if "3" not in f"{t:g}"]  # powers of ten
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks], fontsize=8.5, color=INK)
    axes.set_xticks([], minor=True)
    axes.set_yticks(
        range(len(panel)), [name for name, _ in panel] if first else [""] * len(panel), fontsize=9, color=INK
    )
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.set_title(cell, fontsize=10.5, color=INK, loc="left", pad=5)
    axes.spines[:].set_visible(False)
