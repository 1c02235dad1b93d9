"""`accelerate`, `restore` and `report`: another class for modules that are there."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from fastrnn.interop.torch import _unsupported
from fastrnn.interop.torch._modules import GRU, LSTM, RNN, Fast

_FAST: dict[Any, Any] = {torch.nn.RNN: RNN, torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}
_OURS = tuple(_FAST.values())


def accelerate(model: Any, *, unsupported: str = "warn") -> Any:
    """Run the recurrent layers of a PyTorch model on fastrnn's kernels, in place.

    The modules stay the objects they are, with their parameters, hooks and names: only their class becomes a subclass
    of what it was. So optimisers that hold the parameters go on, and `restore` undoes it.

    Parameters
    ----------
    model : torch.nn.Module
        Every `torch.nn.RNN`, `LSTM` and `GRU` in it is meant, itself included, and subclasses that have no `forward` of
        their own.
    unsupported : {"warn", "error", "ignore"}
        What happens where PyTorch's own kernels must go on: for recurrent modules that can't be accelerated, now, and
        for calls that fastrnn's kernels can't run (tensors on a GPU or of another type, a second derivative), when they
        come. An error is a `NotImplementedError`.

    Returns
    -------
    torch.nn.Module
        The same model.

    See Also
    --------
    report : what runs where

    Examples
    --------
    >>> import torch
    >>> from fastrnn.interop.torch import accelerate, restore
    >>> model = torch.nn.Sequential(torch.nn.Embedding(10, 8), torch.nn.GRU(8, 16, batch_first=True))
    >>> model = accelerate(model)
    >>> y, h_n = model(torch.tensor([[1, 2, 3]]))
    >>> y.shape, isinstance(model[1], torch.nn.GRU)
    (torch.Size([1, 3, 16]), True)
    >>> type(restore(model)[1]) is torch.nn.GRU
    True
    """
    _unsupported.choice(unsupported)
    rows = _recurrent(model)
    if not rows:
        _unsupported.say(unsupported, f"this {type(model).__name__}", "it has no torch.nn.RNN, LSTM or GRU")
    for name, module, why in rows:  # before anything is changed
        if why is not None:
            _unsupported.say(unsupported, f"{name or 'the model'} ({_name(module)})", why)
    for _, module, why in rows:
        if why is None:
            if not isinstance(module, Fast):
                module.__class__ = _fast_class(module, type(module))
            module._fastrnn_unsupported = unsupported
    return model


def restore(model: Any) -> Any:
    """Undo `accelerate`: every module has the class that it had.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same model.
    """
    for _, module, _ in _recurrent(model):
        if isinstance(module, Fast):
            module.__class__ = _plain_class(module, type(module))
            module.__dict__.pop("_fastrnn_unsupported", None)
    return model


def report(model: Any) -> dict[str, str]:
    """Tell what each recurrent module of a model runs on.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    dict
        By the names of `model.named_modules()`: "fastrnn", or "PyTorch", and why if that can't be changed.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.interop.torch import LSTM, report
    >>> report(torch.nn.ModuleDict({"a": LSTM(2, 3), "b": torch.nn.LSTM(2, 3), "c": torch.nn.LSTMCell(2, 3)}))
    {'a': 'fastrnn', 'b': 'PyTorch', 'c': 'PyTorch: it runs one step a call'}
    """
    return {
        name: "fastrnn" if isinstance(module, Fast) else "PyTorch" if why is None else f"PyTorch: {why}"
        for name, module, why in _recurrent(model)
    }


def _recurrent(model: Any) -> list[tuple[str, Any, str | None]]:
    """(name, module, why not) of all that is recurrent."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    named = [(name, module) for name, module in model.named_modules() if _is_recurrent(module)]
    return [(name, module, _why_not(module)) for name, module in named]


def _is_recurrent(module: Any) -> bool:
    if isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return True
    kind = type(module)
    if kind.__module__.startswith("torch.ao."):
        return any(name in kind.__name__ for name in ("RNN", "LSTM", "GRU"))
    return isinstance(module, torch.jit.ScriptModule) and module.original_name in ("RNN", "LSTM", "GRU")


def _name(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _why_not(module: Any) -> str | None:
    """Why a recurrent module can't be accelerated; None if it can, or is."""
    if isinstance(module, Fast):
        return None
    if isinstance(module, torch.jit.ScriptModule):
        return "torch.jit.script has compiled it"
    if isinstance(module, torch.nn.RNNCellBase):
        return "it runs one step a call"
    base = next((base for base in _FAST if isinstance(module, base)), None)
    if base is None:
        return "it is none of torch.nn.RNN, LSTM and GRU"
    if "forward" in module.__dict__ or type(module).forward is not base.forward:
        return "it has a forward of its own"
    return None


# Note [classes]: a plain module gets the class RNN, LSTM or GRU. A user's subclass U gets a class (GRU, U), made once.
# A module with parametrisations has a class made for it alone, whose base PyTorch gives back when the last one is
# removed: it gets another such class, with the same contents on the accelerated base; and that way back.
_MADE: dict[Any, Any] = {}


def _is_injected(module: Any, cls: Any) -> bool:
    return is_parametrized(module) and all(name in cls.__dict__ for name in module.parametrizations)


def _on_base(cls: Any, base: Any) -> Any:
    contents = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    return type(cls)(cls.__name__, (base,), contents)


def _fast_class(module: Any, cls: Any) -> Any:
    if cls in _FAST:
        return _FAST[cls]
    if _is_injected(module, cls):
        return _on_base(cls, _fast_class(module, cls.__bases__[0]))
    return _made(cls)


def _made(cls: Any) -> Any:
    """The accelerated class of a user's subclass."""
    if cls not in _MADE:
        fast = next(fast for plain, fast in _FAST.items() if issubclass(cls, plain))
        contents = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "__reduce_ex__": _reduce,
        }
        _MADE[cls] = type(cls)(cls.__name__, (fast, cls), contents)
    return _MADE[cls]


def _plain_class(module: Any, cls: Any) -> Any:
    if cls in _OURS:
        return cls.__bases__[1]
    if _is_injected(module, cls):
        return _on_base(cls, _plain_class(module, cls.__bases__[0]))
    theirs = cls.__bases__[-1]
    if _MADE.get(theirs) is cls:
        return theirs
    raise TypeError(
        f"restore: {cls.__qualname__} is a subclass of {cls.__bases__[0].__qualname__}, and was made as one"
    )


def _reduce(module: Any, protocol: int) -> Any:
    """Pickled by the class it had: a class that was made can't be found by its name."""
    return _new, (type(module).__bases__[-1],), module.__getstate__()


def _new(cls: Any) -> Any:
    fast = _made(cls)
    return fast.__new__(fast)
