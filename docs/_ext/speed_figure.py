"""The figure of the start page: the README's table of measurements, drawn when the site is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LABELS = {  # rows of that table, as they begin
    "LSTM, T=128": "LSTM training, 256 units, one thread",
    "GRU, same shape": "GRU training, the same shape",
    "LSTM, T=100 B=1": "LSTM training, one sequence, 32 units",
    "character model": "character model (LSTM), whole steps",
    "the same with GRU": "character model (GRU), whole steps",
    "bidirectional LSTM": "ragged bidirectional LSTM, training",
}
COLOURS = {"light": ("#0b6477", "#b9c4c9", "#33414a"), "dark": ("#5cc3d3", "#52606a", "#cfd8dc")}


def ratios(readme: str) -> dict[str, float]:
    """How many times as fast as PyTorch, by label."""
    found = {}
    for row in re.findall(r"^\|(.+)\|$", readme, re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        what, last = cells[0], cells[-1]
        ratio = re.fullmatch(r"([\d.]+)×", last)
        label = next((label for start, label in LABELS.items() if what.startswith(start)), None)
        if ratio and label:
            found[label] = float(ratio[1])
    return found


def draw(values: dict[str, float], path: Path, ink: tuple[str, str, str]) -> None:
    """Bars, one beside another, the longest on top."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ours, theirs, text = ink
    settings = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "fastrnn"}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(6, 0.4 * len(values) + 0.5), layout="constrained")
        ordered = sorted(values.items(), key=lambda item: item[1])
        axes.barh([label for label, _ in ordered], [ratio for _, ratio in ordered], color=ours, height=0.6)
        axes.axvline(1, color=theirs, lw=1.5)
        for row, (_, ratio) in enumerate(ordered):
            axes.text(ratio + 0.15, row, f"{ratio:g}×", va="center", color=text)
        axes.set_xlim(0, max(values.values()) * 1.08)
        axes.set_xticks([1], ["PyTorch"])
        axes.tick_params(length=0, colors=text)
        axes.spines[:].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


def make(app: Sphinx) -> None:
    """Write both files."""
    here = Path(app.srcdir)
    values = ratios((here.parent / "README.md").read_text(encoding="utf-8"))
    if set(values) != set(LABELS.values()):
        raise ValueError(f"README.md: its table has no ratio for {set(LABELS.values()) - set(values)}")
    for theme, ink in COLOURS.items():
        draw(values, here / "_static" / f"speed-{theme}.svg", ink)


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw before pages are read."""
    app.connect("builder-inited", make, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
