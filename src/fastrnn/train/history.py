"""What happened in a training run: a curve of bounded size, each epoch and validation, and a plot."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from fastrnn.io import finite, write_json

__all__ = ["History"]

# Past this many points neighbours are merged in pairs, so that the curve of a run of any length stays small.
MAX_POINTS = 4096
COLUMNS = ("step", "loss", "lr", "grad_norm", "seconds")


class History:
    """The record of a run.

    Attributes
    ----------
    steps : dict of str to list
        The training curve in equal columns: ``step`` (number of the last step of the point), ``loss`` (mean
        over the point), ``lr``, ``grad_norm`` (mean, before clipping), ``seconds`` (training time so far). A
        point is one step until there are 4096, then two, then four …
    epochs : list of dict
        One entry an epoch: ``epoch``, ``step``, ``loss`` (mean over its batches), ``seconds``.
    validations : list of dict
        One entry a validation: ``step``, ``epoch``, ``loss``, ``seconds``.
    notes : dict
        Facts on the run, such as why it stopped (``"stopped"``).

    Examples
    --------
    >>> from fastrnn.train import History
    >>> history = History()
    >>> history.add_step(1, loss=2.5, lr=0.1, grad_norm=1.0, seconds=0.02)
    >>> history.steps["loss"]
    [2.5]
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.validations: list[dict[str, Any]] = []
        self.notes: dict[str, Any] = {}
        self._points = np.zeros((MAX_POINTS, len(COLUMNS)))
        self._count = 0
        self._merge = 1  # steps in a full point
        self._open = np.zeros(len(COLUMNS))  # the point being filled: last step, sums, last seconds
        self._filled = 0

    def add_step(self, step: int, *, loss: float, lr: float, grad_norm: float, seconds: float) -> None:
        """Add one optimiser step."""
        self._open[0], self._open[4] = step, seconds
        self._open[1:4] += (loss, lr, grad_norm)
        self._filled += 1
        if self._filled == self._merge:
            self._close()

    def _close(self) -> None:
        point = self._open.copy()
        point[1:4] /= self._filled
        self._points[self._count] = point
        self._count += 1
        self._open[:], self._filled = 0, 0
        self._halve_if_full()

    def _halve_if_full(self) -> None:
        if self._count == MAX_POINTS:
            pairs = self._points.reshape(-1, 2, len(COLUMNS))
            merged = pairs[:, 1].copy()
            merged[:, 1:4] = pairs[:, :, 1:4].mean(axis=1)
            self._count = len(merged)
            self._points[: self._count] = merged
            self._merge *= 2

    @property
    def steps(self) -> dict[str, list[float]]:
        points = self._points[: self._count]
        if self._filled:
            last = self._open.copy()
            last[1:4] /= self._filled
            points = np.concatenate([points, last[None]])
        columns = {name: points[:, i].tolist() for i, name in enumerate(COLUMNS)}
        columns["step"] = [int(step) for step in columns["step"]]
        return columns

    def __repr__(self) -> str:
        steps = self.steps["step"]
        text = f"History({steps[-1] if steps else 0} steps, {len(self.epochs)} epochs"
        if steps:
            text += f", loss {self.steps['loss'][-1]:.4g}"
        if self.validations:
            text += f", validation loss {self.validations[-1]['loss']:.4g}"
        return text + ")"

    def state_dict(self) -> dict[str, Any]:
        """Return everything, for a checkpoint."""
        return {
            "epochs": [dict(entry) for entry in self.epochs],
            "validations": [dict(entry) for entry in self.validations],
            "notes": dict(self.notes),
            "points": self._points[: self._count].copy(),
            "merge": self._merge,
            "open": self._open.copy(),
            "filled": self._filled,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.epochs = [dict(entry) for entry in state["epochs"]]
        self.validations = [dict(entry) for entry in state["validations"]]
        self.notes = dict(state["notes"])
        self._count, self._merge = len(state["points"]), int(state["merge"])
        self._points[: self._count] = state["points"]
        self._open[:], self._filled = state["open"], int(state["filled"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, atomically. Numbers that are not finite become null."""
        write_json(
            path,
            finite(
                {
                    "fastrnn_history": 1,
                    "notes": self.notes,
                    "epochs": self.epochs,
                    "validations": self.validations,
                    "steps_per_point": self._merge,
                    "steps": self.steps,
                }
            ),
            indent=None,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file isn't a history.
        """
        import json

        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error})") from None
        if not isinstance(data, dict) or data.get("fastrnn_history") != 1:
            raise ValueError(f"{path}: not a history written by fastrnn")
        history = cls()
        try:
            history._take(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}: not a whole history ({what})") from None
        return history

    def _take(self, data: dict[str, Any]) -> None:
        """Take over what `save` wrote."""
        self.epochs = [dict(entry) for entry in data["epochs"]]
        self.validations = [dict(entry) for entry in data["validations"]]
        self.notes = dict(data["notes"])
        columns = [[math.nan if value is None else value for value in data["steps"][name]] for name in COLUMNS]
        points = np.array(columns, dtype=np.float64).T
        self._count, self._merge = len(points), int(data["steps_per_point"])
        self._points[: len(points)] = points
        self._halve_if_full()

    def plot(self, path: str | os.PathLike[str] | None = None, *, label: str = "loss", scale: float = 1.0) -> Any:
        """Draw training and validation loss over steps.

        Parameters
        ----------
        path : path, optional
            Write the picture there (png, svg, pdf); without it the figure is only returned, as notebooks show
            it.
        label, scale
            Name of the loss and a factor on it, such as ``"bits per character", 1 / math.log(2)``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib isn't installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("History.plot needs matplotlib: pip install 'fastrnn[cli]'") from error
        figure = Figure(figsize=(7.0, 4.2), layout="constrained", dpi=120)
        axes = figure.subplots()
        curve = self.steps
        step, loss = np.array(curve["step"]), scale * np.array(curve["loss"])
        window = max(1, len(loss) // 100)
        if len(loss):
            axes.plot(step, loss, color="#9ecae1", linewidth=0.8, label="training" if window == 1 else None)
        if window > 1:  # a running mean over about a hundredth of the curve
            mean = np.convolve(loss, np.full(window, 1.0 / window), mode="valid")
            axes.plot(step[window - 1 :], mean, color="#08519c", linewidth=1.6, label="training")
        if self.validations:
            axes.plot(
                [entry["step"] for entry in self.validations],
                [scale * entry["loss"] for entry in self.validations],
                color="#d94801",
                marker="o",
                markersize=4,
                linewidth=1.4,
                label="validation",
            )
        finite = loss[np.isfinite(loss)]
        if len(finite) > 20:  # the first steps would squeeze the rest of the curve
            low, high = finite.min(), np.quantile(finite[len(finite) // 50 :], 0.99)
            lows = [scale * entry["loss"] for entry in self.validations if math.isfinite(entry["loss"])]
            low, high = min([low, *lows]), max([high, *lows])
            margin = 0.06 * (high - low) or 0.1
            axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        if path is not None:
            figure.savefig(path)
        return figure
