"""Optimisers with fused compiled updates.

The formulas are PyTorch's, so a run can be moved here with its learning rates. An optimiser holds the model's
live arrays: ``step()`` reads ``grads`` and changes ``params`` in place.

Layers with lazy rows (``Embedding(lazy=True)``) list the rows that the last pullbacks touched in
``model.touched``; only those rows of the parameter and of the optimiser's memory are then read and written,
with the bias correction of the global step (as in PyTorch's SparseAdam).
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np

from fastrnn import _core
from fastrnn.train.arrays import named_arrays, touched_rows

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]


def _number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return a finite float in [low, high), or say what is wrong."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not (low <= number < high):
        bound = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g})"
        raise ValueError(f"{name}: expected a finite number {bound}, got {value!r}")
    return number


class Optimizer:
    """Base of the optimisers: parameter groups, lazy rows, exact state.

    Parameters
    ----------
    model
        A layer or model (not its ``params``), or a mapping of name -> (parameter, gradient).
    lr : float
        Learning rate. ``optimizer.lr`` may be set between steps.
    weight_decay : float
        Decay of the weights: added to the gradient (AdamW: applied to the weights themselves).
    groups : dict, optional
        Shell-style name pattern -> options that differ for the matching parameters, such as
        ``{"*bias*": {"weight_decay": 0.0}, "embedding.*": {"lr": 1e-4}}``. Where several patterns match, the
        later one wins. A pattern that matches no parameter is an error.

    Attributes
    ----------
    lr : float
        Learning rate of the parameters whose group sets none.
    lr_factor : float
        Multiplies every learning rate, those of the groups too. Schedules set it; 1 at first.
    steps : int
        Number of steps taken.
    """

    _ranges: ClassVar[dict[str, tuple[float, float]]] = {}
    _rule: ClassVar[str] = ""  # of `_core.update`
    _all_slots: ClassVar[tuple[str, ...]] = ()  # in its order

    def __init__(
        self, model: Any, lr: float, *, groups: dict[str, dict[str, float]] | None = None, **options: Any
    ) -> None:
        self._model = model
        self._arrays = named_arrays(model)
        if not self._arrays:
            raise ValueError("model: has no parameters to optimise")
        self.lr = lr
        self.lr_factor = 1.0
        self.steps = 0
        self._defaults = {name: self._checked(name, value) for name, value in options.items()}
        self._overrides = self._match(groups or {})
        self._slots = {
            name: {slot: np.zeros_like(param) for slot in self._slot_names()}
            for name, (param, _) in self._arrays.items()
        }
        self._lazy = bool(touched_rows(model))
        self._items = self._lay_out()

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._checked("lr", value)

    def _checked(self, name: str, value: Any) -> float:
        if isinstance(value, bool):
            return value
        return _number(name, value, *self._ranges.get(name, (0.0, math.inf)))

    def _match(self, groups: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        overrides: dict[str, dict[str, float]] = {name: {} for name in self._arrays}
        if not self._defaults.get("momentum") and any(options.get("momentum") for options in groups.values()):
            raise ValueError("groups: momentum needs an optimiser with momentum > 0")
        allowed = ["lr", *(name for name, value in self._defaults.items() if not isinstance(value, bool))]
        for pattern, options in groups.items():
            unknown = sorted(set(options) - set(allowed))
            if unknown:
                raise ValueError(f"groups[{pattern!r}]: unknown options {unknown}; known are {allowed}")
            matching = [name for name in self._arrays if fnmatchcase(name, pattern)]
            if not matching:
                raise ValueError(f"groups[{pattern!r}]: matches none of the parameters {sorted(self._arrays)}")
            for name in matching:
                overrides[name].update({key: self._checked(key, value) for key, value in options.items()})
        return overrides

    def _slot_names(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter."""
        return ()

    def _numbers(self, o: dict[str, Any]) -> tuple[float, ...]:
        """What `_core.update` wants to know, from the options in force."""
        raise NotImplementedError

    def _lay_out(self) -> list[tuple[str, Any, Any, list[Any]]]:
        """Name, parameter, gradient and slots of each update: the arrays stay the same from step to step."""
        return [
            (name, p, g, [self._slots[name].get(slot) for slot in self._all_slots])
            for name, (p, g) in self._arrays.items()
        ]

    def options(self, name: str) -> dict[str, Any]:
        """Return the options in force for one parameter, with its learning rate (without ``lr_factor``)."""
        return {"lr": self._lr, **self._defaults, **self._overrides[name]}

    def step(self) -> None:
        """Update every parameter from its gradient. Gradients are left as they are."""
        self.steps += 1
        touched = touched_rows(self._model) if self._lazy else {}
        usual = self._numbers({"lr": self._lr * self.lr_factor, **self._defaults})
        items = []
        for name, p, g, slots in self._items:
            numbers = usual
            if self._overrides[name]:
                options = self.options(name)
                options["lr"] *= self.lr_factor
                numbers = self._numbers(options)
            items.append((p, g, slots, numbers, touched.get(name)))
        _core.update(self._rule, items)

    def zero_grads(self) -> None:
        """Set the gradients to zero, as ``model.zero_grads()`` does."""
        if hasattr(self._model, "zero_grads"):
            self._model.zero_grads()
        else:
            _core.scale_all([(g, None) for _, g in self._arrays.values()], 0)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything a continued run needs: numbers exactly, arrays bit for bit."""
        return {
            "type": type(self).__name__,
            "lr": self._lr,
            "lr_factor": self.lr_factor,
            "steps": self.steps,
            "defaults": dict(self._defaults),
            "overrides": {name: dict(options) for name, options in self._overrides.items()},
            "slots": {
                name: {slot: array.copy() for slot, array in slots.items()} for name, slots in self._slots.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned, learning rates and other options included.

        Raises
        ------
        ValueError
            The state is another optimiser's, or its parameters differ in name or shape. Nothing is changed.
        """
        if state.get("type") != type(self).__name__:
            raise ValueError(f"state: is of {state.get('type')!r}, expected {type(self).__name__!r}")
        problems = []
        saved = state["slots"]
        for name, slots in self._slots.items():
            if name not in saved:
                problems.append(f"{name} is missing")
                continue
            for slot, array in slots.items():
                shape = np.shape(saved[name].get(slot))
                if slot not in saved[name] or shape != array.shape:
                    problems.append(f"{name}.{slot} has shape {shape}, expected {array.shape}")
        problems += [f"{name} is unknown" for name in saved if name not in self._slots]
        if set(state["defaults"]) != set(self._defaults):
            problems.append(f"options are {sorted(state['defaults'])}, expected {sorted(self._defaults)}")
        if problems:
            raise ValueError("state: " + "; ".join(problems))
        self._lr, self.lr_factor, self.steps = state["lr"], state["lr_factor"], int(state["steps"])
        self._defaults = dict(state["defaults"])
        self._overrides = {name: dict(state["overrides"].get(name, {})) for name in self._arrays}
        # The set of slots depends on options such as momentum; start from what those options ask for.
        for name, (param, _) in self._arrays.items():
            self._slots[name] = {
                slot: np.array(saved[name][slot], dtype=param.dtype, order="C") for slot in self._slot_names()
            }
        self._items = self._lay_out()

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._defaults.items())
        return f"{type(self).__name__}({len(self._arrays)} parameters, lr={self._lr!r}{options})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    ``g += weight_decay·p;  b = momentum·b + g;  p -= lr·b`` (Nesterov: ``p -= lr·(g + momentum·b)``).

    Parameters
    ----------
    model, lr, weight_decay, groups
        As for `Optimizer`.
    momentum : float
    nesterov : bool

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> p, g = np.ones(2), np.full(2, 0.5)
    >>> opt = fr.optim.SGD({"p": (p, g)}, lr=0.1)
    >>> opt.step(); p
    array([0.95, 0.95])
    """

    _ranges: ClassVar = {"momentum": (0.0, 1.0)}
    _rule = "sgd"
    _all_slots = ("b",)

    def __init__(
        self,
        model: Any,
        lr: float = 1e-2,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        groups: dict[str, dict[str, float]] | None = None,
    ) -> None:
        if nesterov and not momentum:
            raise ValueError("nesterov: needs momentum > 0")
        super().__init__(
            model, lr, groups=groups, momentum=momentum, nesterov=bool(nesterov), weight_decay=weight_decay
        )

    def _slot_names(self) -> tuple[str, ...]:
        return ("b",) if self._defaults["momentum"] else ()

    def _numbers(self, o: dict[str, Any]) -> tuple[float, ...]:
        return o["lr"], o["momentum"], 0.0, o["nesterov"], o["weight_decay"], False


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), with PyTorch's place for ``eps``.

    ``s = alpha·s + (1-alpha)·g²;  p -= lr·g / (√s + eps)``; ``centered`` subtracts the square of the running
    mean of g from s, ``momentum`` runs over the quotient.

    Parameters
    ----------
    model, lr, weight_decay, groups
        As for `Optimizer`.
    alpha, eps, momentum : float
    centered : bool

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> p, g = np.zeros(1), np.ones(1)
    >>> opt = fr.optim.RMSprop({"p": (p, g)}, lr=0.1)
    >>> opt.step(); p.round(6)
    array([-1.])
    """

    _ranges: ClassVar = {"alpha": (0.0, 1.0), "eps": (0.0, math.inf), "momentum": (0.0, 1.0)}
    _rule = "rmsprop"
    _all_slots = ("s", "b", "mean")

    def __init__(
        self,
        model: Any,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        groups: dict[str, dict[str, float]] | None = None,
    ) -> None:
        super().__init__(
            model,
            lr,
            groups=groups,
            alpha=alpha,
            eps=eps,
            momentum=momentum,
            centered=bool(centered),
            weight_decay=weight_decay,
        )

    def _slot_names(self) -> tuple[str, ...]:
        return (
            "s",
            *(("b",) if self._defaults["momentum"] else ()),
            *(("mean",) if self._defaults["centered"] else ()),
        )

    def _numbers(self, o: dict[str, Any]) -> tuple[float, ...]:
        return o["lr"], o["alpha"], o["eps"], o["momentum"], o["weight_decay"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1).

    ``m = β₁·m + (1-β₁)·g;  v = β₂·v + (1-β₂)·g²;  p -= lr·m̂ / (√v̂ + eps)``; weight decay is added to g.

    Parameters
    ----------
    model, lr, weight_decay, groups
        As for `Optimizer`.
    betas : pair of float
    eps : float

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> p, g = np.zeros(2), np.array([0.5, -3.0])
    >>> opt = fr.optim.Adam({"p": (p, g)}, lr=0.1)
    >>> opt.step(); p.round(6)
    array([-0.1,  0.1])
    """

    _ranges: ClassVar = {"beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "eps": (0.0, math.inf)}
    _rule = "adam"
    _all_slots = ("m", "v")
    _decoupled = False

    def __init__(
        self,
        model: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: dict[str, dict[str, float]] | None = None,
    ) -> None:
        beta1, beta2 = betas
        super().__init__(model, lr, groups=groups, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def _slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def _numbers(self, o: dict[str, Any]) -> tuple[float, ...]:
        return o["lr"], o["beta1"], o["beta2"], o["eps"], o["weight_decay"], self._decoupled, self.steps


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    ``p -= lr·weight_decay·p`` beside Adam's step; arguments as for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> p, g = np.ones(1), np.zeros(1)
    >>> opt = fr.optim.AdamW({"p": (p, g)}, lr=0.1, weight_decay=0.5)
    >>> opt.step(); p
    array([0.95])
    """

    _decoupled = True

    def __init__(
        self,
        model: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        groups: dict[str, dict[str, float]] | None = None,
    ) -> None:
        super().__init__(model, lr, betas=betas, eps=eps, weight_decay=weight_decay, groups=groups)
