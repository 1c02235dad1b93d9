"""Calls of the core with arguments that don't fit. Run as a script, each in a process of its own:

    python -m tests.core.misfits

prints a JSON object, name → "refused" (an exception), "accepted", or the signal that ended the process.
"""

import json
import os
import signal
import sys

import numpy as np

from fastrnn import _core

T, B, I, H = 4, 3, 5, 6


def forward_arguments():
    """What `_core.forward` takes for one LSTM; nothing is wrong with it."""
    return {
        "cell": _core.LSTM,
        "x": np.ones((T, B, I)),
        "weights": ((np.ones((4 * H, I)), np.ones((4 * H, H)), np.ones(4 * H), np.ones(4 * H), None),),
        "h_0": np.ones((1, B, H)),
        "c_0": np.ones((1, B, H)),
        "lengths": np.array([4, 0, 2]),
        "batch_first": False,
        "reverse": False,
        "y": np.empty((T, B, H)),
        "h_n": np.empty((1, B, H)),
        "c_n": np.empty((1, B, H)),
        "save": True,
    }


def backward_arguments():
    """What `Saved.backward` takes after that call."""
    return {
        "dy": np.ones((T, B, H)),
        "dh_n": np.ones((1, B, H)),
        "dc_n": np.ones((1, B, H)),
        "grads": tuple(tuple(None if w is None else np.zeros_like(w) for w in ws) for ws in weights()),
        "input_grad": True,
        "dh_0": np.empty((1, B, H)),
        "dc_0": np.empty((1, B, H)),
        "retain": False,
        "dx": np.empty((T, B, I)),
    }


def weights():
    return forward_arguments()["weights"]


def forward(**changes):
    return _core.forward(*(forward_arguments() | changes).values())


def backward(**changes):
    return forward().backward(*(backward_arguments() | changes).values())


def read_only(shape):
    return np.broadcast_to(1.0, shape)


def spaced(*shape):
    """Zeros of a shape, whose last axis isn't contiguous."""
    return np.zeros((*shape[:-1], 2 * shape[-1]))[..., ::2]


def with_weight(position, value):
    ws = list(weights()[0])
    ws[position] = value
    return (tuple(ws),)


def with_grad(position, value):
    gs = list(backward_arguments()["grads"][0])
    gs[position] = value
    return (tuple(gs),)


def gru_with_projection():
    ws = (np.ones((3 * H, I)), np.ones((3 * H, H)), None, None, np.ones((H, H)))
    return forward(cell=_core.GRU_AFTER, weights=(ws,))


def second_direction(*shapes):
    other = tuple(None if shape is None else np.ones(shape) for shape in shapes)
    two = {name: np.ones((2, B, H)) for name in ("h_0", "c_0", "h_n", "c_n")}
    return forward(weights=(*weights(), other), y=np.empty((T, B, 2 * H)), **two)


def misshapen(name, shape, call):
    """An output or state of other sizes, types and kinds, by name."""
    long, short = (*shape[:-1], shape[-1] + 1), (*shape[:-1], shape[-1] - 1)
    bad = {
        "long": np.zeros(long),
        "short": np.zeros(short),
        "empty": np.zeros((*shape[:-1], 0)),
        "float32": np.zeros(shape, np.float32),
        "int64": np.zeros(shape, np.int64),
        "objects": np.zeros(shape, object),
        "big_endian": np.zeros(shape, ">f8"),
        "list": np.zeros(shape).tolist(),
        "number": 1.0,
    }
    return {f"{name}_{kind}": lambda value=value: call(**{name: value}) for kind, value in bad.items()}


def written(name, shape, call):
    bad = {"read_only": read_only(shape), "spaced": spaced(*shape)}
    return {f"{name}_{kind}": lambda value=value: call(**{name: value}) for kind, value in bad.items()}


def calls():
    """name → a call that must raise."""
    found = {}

    def add(prefix, call, argument, **values):
        for kind, value in values.items():
            found[f"{prefix}{argument}_{kind}"] = lambda value=value: call(**{argument: value})

    add("", forward, "cell", negative=-1, large=6, huge=1 << 40, name="lstm", none=None)
    add(
        "",
        forward,
        "x",
        none=None,
        list=[[[1.0]]],
        int64=np.ones((T, B, I), int),
        half=np.ones((T, B, I), np.half),
        float32=np.ones((T, B, I), np.float32),
        flat=np.ones((T, I)),
        four_axes=np.ones((T, B, I, 1)),
        no_steps=np.ones((0, B, I)),
        no_features=np.ones((T, B, 0)),
        more_features=np.ones((T, B, I + 1)),
        more_steps=np.ones((T + 1, B, I)),
        more_rows=np.ones((T, B + 1, I)),
        fewer_rows=np.ones((T, B - 1, I)),
        huge=np.broadcast_to(1.0, (1 << 16, 1 << 15, I)),
        complex=np.ones((T, B, I), complex),
    )
    add(
        "",
        forward,
        "weights",
        none=None,
        empty=(),
        no_arrays=((),),
        four=(weights()[0][:4],),
        three=weights() * 3,
        array=np.ones((4 * H, I)),
        number=1,
    )
    for k, (name, shape) in enumerate((("W", (4 * H, I)), ("R", (4 * H, H)), ("b_w", (4 * H,)), ("b_r", (4 * H,)))):
        bad = misshapen(name, shape, lambda k=k, **change: forward(weights=with_weight(k, *change.values())))
        found |= {f"weight_{kind}": call for kind, call in bad.items()}
    for k, name in enumerate(("W", "R")):
        for kind, value in (
            ("none", None),
            ("vector", np.ones(H)),
            ("more_rows", np.ones((4 * H + 1, (I, H)[k]))),
            ("more_units", np.ones((4 * H + 4, (I, H)[k]))),
            ("no_rows", np.ones((0, (I, H)[k]))),
        ):
            found[f"weight_{name}_{kind}"] = lambda k=k, value=value: forward(weights=with_weight(k, value))
    found["weight_M_shape"] = lambda: forward(weights=with_weight(4, np.ones((H, H + 1))))
    found["weight_M_vector"] = lambda: forward(weights=with_weight(4, np.ones(H)))
    found["weight_R_as_if_projected"] = lambda: forward(weights=with_weight(1, np.ones((4 * H, 2))))
    found["gru_with_projection"] = gru_with_projection
    size = (4 * H, I), (4 * H, H), None, None
    found["second_direction_projected"] = lambda: second_direction(*size, (H, H))
    found["second_direction_wide"] = lambda: second_direction((8 * H, I), (8 * H, 2 * H), None, None, None)
    found["second_direction_inputs"] = lambda: second_direction((4 * H, I + 1), (4 * H, H), None, None, None)
    for name in ("h_0", "c_0"):
        found |= misshapen(name, (1, B, H), forward)
    for name, shape in (("y", (T, B, H)), ("h_n", (1, B, H)), ("c_n", (1, B, H))):
        found |= misshapen(name, shape, forward) | written(name, shape, forward)
        add("", forward, name, none=None)
    add(
        "",
        forward,
        "y",
        fewer_steps=np.empty((T - 1, B, H)),
        fewer_rows=np.empty((T, B - 1, H)),
        flat=np.empty(H),
    )
    add(
        "",
        forward,
        "lengths",
        int32=np.array([4, 0, 2], np.int32),
        floats=np.array([4.0, 0, 2]),
        list=[4, 0, 2],
        few=np.array([4, 0]),
        many=np.array([4, 0, 2, 1]),
        negative=np.array([4, -1, 2]),
        long=np.array([4, 0, 5]),
        huge=np.array([1 << 62] * 3),
        smallest=np.array([-(1 << 63), 0, 0]),
    )

    found |= {f"back_{k}": c for k, c in misshapen("dy", (T, B, H), backward).items()}
    del found["back_dy_big_endian"]  # is copied, like any sequence that kernels can't read
    add("back_", backward, "dy", fewer_steps=np.ones((T - 1, B, H)), fewer_rows=np.ones((T, B - 1, H)))
    for name in ("dh_n", "dc_n"):
        found |= {f"back_{k}": c for k, c in misshapen(name, (1, B, H), backward).items()}
    for name, shape in (("dh_0", (1, B, H)), ("dc_0", (1, B, H)), ("dx", (T, B, I))):
        bad = misshapen(name, shape, backward) | written(name, shape, backward)
        found |= {f"back_{kind}": call for kind, call in bad.items()}
    add("back_", backward, "dx", fewer_steps=np.ones((T - 1, B, I)), fewer_rows=np.ones((T, B - 1, I)))
    add(
        "back_",
        backward,
        "grads",
        none=None,
        empty=(),
        no_arrays=((),),
        four=(backward_arguments()["grads"][0][:4],),
    )
    for k, (name, shape) in enumerate((("dW", (4 * H, I)), ("dR", (4 * H, H)), ("db_w", (4 * H,)), ("db_r", (4 * H,)))):

        def call(k=k, **change):
            return backward(grads=with_grad(k, *change.values()))

        bad = misshapen(name, shape, call) | written(name, shape, call)
        found |= {f"back_{kind}": c for kind, c in bad.items()}
    found["back_nothing_saved"] = lambda: _core.Saved().backward(*backward_arguments().values())
    found["back_of_inference"] = lambda: forward(save=False).backward(*backward_arguments().values())

    x = np.ones(5)
    for kind, arguments in {
        "none": ("exp", None, None),
        "no_output": ("exp", x, None),
        "list": ("exp", [1.0], x),
        "name": ("sin", x, x),
        "no_name": (None, x, x),
        "short": ("exp", x, np.ones(4)),
        "long": ("exp", x, np.ones(6)),
        "types": ("exp", x, np.ones(5, np.float32)),
        "integers": ("exp", np.ones(5, int), np.ones(5, int)),
        "read_only": ("exp", x, read_only(5)),
        "spaced": ("exp", spaced(5), x),
        "spaced_output": ("exp", x, spaced(5)),
        "big_endian": ("exp", np.ones(5, ">f8"), x),
    }.items():
        found[f"vmath_{kind}"] = lambda arguments=arguments: _core.activation(*arguments)
    return found


def main():
    outcomes = {}
    forward().backward(*backward_arguments().values())  # the arguments themselves are fine
    for name, call in calls().items():
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                call()
            except Exception:
                os._exit(0)
            os._exit(3)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            outcomes[name] = signal.Signals(os.WTERMSIG(status)).name
        else:
            outcomes[name] = {0: "refused", 3: "accepted"}.get(os.WEXITSTATUS(status), str(status))
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
