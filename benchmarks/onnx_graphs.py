"""Loaded ONNX graphs beside ONNX Runtime: ``python benchmarks/onnx_graphs.py``, half a minute. Needs onnx, onnxruntime.

Each is a file that `fastrnn.interop.onnx.save` has written, without lengths. Both sides read it, their outputs are
compared, and they run in turn. Beside them is the layer itself, so that what the graph costs is seen.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import onnxruntime

import fastrnn as fr
from fastrnn import bench
from fastrnn.interop import onnx

SHAPES = (bench.Shape(50, 32, 64, 128), bench.Shape(50, 1, 64, 128), bench.Shape(1, 1, 16, 16))
MODELS = {
    "LSTM": lambda I, H: fr.LSTM(I, H, seed=0),
    "GRU": lambda I, H: fr.GRU(I, H, seed=0),
    "classifier": lambda I, H: fr.Sequential(
        fr.LSTM(I, H, 2, bidirectional=True, seed=0), fr.Last(), fr.Linear(2 * H, 9)
    ),
}


def measured(name: str, shape: bench.Shape, threads: int, repeat: int) -> dict[str, Any]:
    """Milliseconds of the three, and how much faster fastrnn's graph is."""
    model = MODELS[name](shape.I, shape.H)
    message = onnx.to_proto(model, lengths=False).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(message, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(message)
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I)).astype(np.float32)
    feeds = {"x": x}
    difference = float(np.abs(graph(x) - session.run(None, feeds)[0]).max())
    if difference > 1e-5:
        raise SystemExit(f"{name} {shape}: results differ by {difference}")
    sides = {"graph": lambda: graph(x), "layer": lambda: model(x), "ort": lambda: session.run(None, feeds)}
    turns = bench.in_turn(sides, repeat=repeat)
    return {
        "ms": {side: 1e3 * turns.median(side) for side in sides},
        "over_ort": turns.speedup("graph", over="ort"),
        "of_layer": turns.speedup("layer", over="graph"),
        "difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="three turns of the smallest shape")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    fr.set_num_threads(args.threads)
    shapes, repeat = (SHAPES[-1:], 3) if args.quick else (SHAPES, args.repeat)
    rows = {f"{name} {shape}": measured(name, shape, args.threads, repeat) for name in MODELS for shape in shapes}
    lines = [["", "graph ms", "layer ms", "ONNX Runtime ms", "ONNX Runtime ÷ graph", "graph ÷ layer"]]
    for name, row in rows.items():
        times = [f"{row['ms'][side]:.3g}" for side in ("graph", "layer", "ort")]
        lines.append([name, *times, f"{row['over_ort']:.2f}", f"{row['of_layer']:.2f}"])
    print(bench.table(lines))
    if args.json:
        print(json.dumps({"threads": args.threads, "rows": rows}))


if __name__ == "__main__":
    main()
