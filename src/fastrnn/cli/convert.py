"""``fastrnn convert``: models from one kind of file to another, checked by reading them back."""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.cli._output import result, warn
from fastrnn.cli._parse import CliError, Failed, command, reason
from fastrnn.cli.cells import imported, own_cell
from fastrnn.cli.formats import FORMATS, Format, Options, format_of
from fastrnn.cli.same import Difference, compared

__all__ = ["add", "run"]

EXAMPLES = """
fastrnn convert novel novel.onnx                  a run's model, for ONNX Runtime
fastrnn convert exported.onnx model.safetensors   what PyTorch or others exported
fastrnn convert model.keras model.safetensors
fastrnn convert model.safetensors model.pt        the weights, as a state dict of PyTorch
fastrnn convert weights.pt model.safetensors --like old.safetensors   a state dict for the model in old.safetensors
fastrnn convert model.safetensors model.onnx --force --json
"""
TOLERANCE = 1e-4  # of outputs, relative: ten times what other kernels' rounding made of them


def add(subparsers: Any) -> None:
    """Add the command to the parser."""
    kinds = "; ".join(f"{', '.join(kind.suffixes)}: {kind.name}" for kind in FORMATS)
    parser = command(
        subparsers,
        "convert",
        description=f"Convert a model; the ends of the names say from what and into what ({kinds}). The new file is "
        "read again, and its weights and outputs compared, before it takes its name.",
        examples=EXAMPLES,
    )
    parser.add_argument("source", metavar="SOURCE", help="a model's file, or the folder of a run")
    parser.add_argument("target", metavar="TARGET", help="the file to write")
    parser.add_argument("--force", action="store_true", help="overwrite TARGET")
    parser.add_argument("--like", metavar="FILE", help="for weights alone: a file, or a run, with their model")
    parser.add_argument("--layers", action="store_true", help="make layers of an ONNX graph, which can be trained")
    parser.add_argument("--cell", type=own_cell, metavar="MODULE:NAME", help="the cell made by fr.cell that it is of")
    parser.add_argument("--no-verify", action="store_true", help="don't read the new file again")
    parser.add_argument("--json", action="store_true", help="one object of JSON; words to standard error")
    parser.set_defaults(run=run, talks=True)


def run(args: argparse.Namespace) -> int:
    """Read, write, compare, and say what came of it."""
    source, target = _of_run(Path(args.source)), Path(args.target)
    reader, writer = format_of(source, "SOURCE"), format_of(target, "TARGET")
    _check(args, source, target, reader)
    layers = args.layers or (reader.name == "ONNX" and writer.name not in ("ONNX", "fastrnn"))
    options = Options(None, {} if args.cell is None else {args.cell: imported(args.cell)}, layers)
    if args.like is not None:
        options = options._replace(like=_like(_of_run(Path(args.like)), options))
    model = _read(reader, source, options)
    # With the same end, which tells libraries what to write, and in the same folder, so that it can be renamed.
    temporary = target.with_name(f".tmp-{os.getpid()}-{os.urandom(4).hex()}-{target.name}")
    try:
        _write(writer, model, temporary, target)
        found = None if args.no_verify else _verified(writer, model, temporary, target, options)
        _put(temporary, target, force=args.force)
    finally:
        temporary.unlink(missing_ok=True)
    _tell(args, source, target, model, found)
    return 0


def _of_run(path: Path) -> Path:
    """The model's file, where the folder of a run is named."""
    return path / "model.safetensors" if path.is_dir() else path


def _like(path: Path, options: Options) -> Any:
    """The model that weights are of."""
    kind = format_of(path, "--like")
    if kind.weights_only:
        raise CliError(f"--like: expected a file that holds a model, got {path}, which has weights alone")
    return _read(kind, path, options)


def _check(args: argparse.Namespace, source: Path, target: Path, reader: Format) -> None:
    """Refuse what can't be before anything is read."""
    if target.is_dir():
        raise CliError(f"TARGET: {target} is a folder, expected the name of a file")
    if not source.exists():
        raise CliError(f"SOURCE: {source}: no such file")
    if target.exists() and source.samefile(target):
        raise CliError("TARGET: expected another file than SOURCE")
    if target.exists() and not args.force:
        raise CliError(f"TARGET: {target} exists; --force overwrites it")
    if not target.parent.is_dir():
        raise CliError(f"TARGET: {target.parent}: no such folder")
    if reader.weights_only and args.like is None:
        raise CliError(
            f"SOURCE: {source} holds weights without the model; --like names a file of fastrnn with one of its kind"
        )
    if args.like is not None and not reader.likeable:
        raise CliError(f"--like: is for weights without a model; {source} has its own")
    if args.layers and reader.name != "ONNX":
        raise CliError(f"--layers: is for graphs of ONNX; {source} has layers")


def _read(kind: Format, path: Path, options: Options) -> Any:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            model = kind.read(path, options)
        for warning in caught:
            warn(str(warning.message))
        return model
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise CliError(f"{path}: {reason(error).removeprefix(f'{path}: ')}") from error


def _write(kind: Format, model: Any, temporary: Path, target: Path) -> None:
    try:
        kind.write(model, temporary)
    except OSError as error:
        if error.filename is not None and Path(error.filename).name == temporary.name:
            error.filename = str(target)  # nobody knows the temporary one
        raise
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CliError(f"{target}: a {type(model).__name__} can't be written as {kind.name}: {error}") from error


def _verified(kind: Format, model: Any, temporary: Path, target: Path, options: Options) -> Difference:
    """How far the new file is from the model."""
    try:
        again = kind.read(temporary, options._replace(like=model if kind.weights_only else None, layers=False))
        found = compared(model, again, exact=kind.exact)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        text = reason(error).replace(str(temporary), str(target)).removeprefix(f"{target}: ")
        raise Failed(f"{target}: not written, for reading it again doesn't give the model: {text}") from error
    if not found.largest <= (0.0 if kind.exact else TOLERANCE):
        allowed = "" if kind.exact else f", more than {TOLERANCE:g}"
        raise Failed(f"{target}: not written, for it would differ: {found}{allowed} (--no-verify writes it)")
    return found


def _put(temporary: Path, target: Path, *, force: bool) -> None:
    """Give the file its name, with the mode that the umask leaves."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    if force:
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, it fails where a file has come meanwhile
    except FileExistsError:
        raise CliError(f"TARGET: {target} exists; --force overwrites it") from None
    except OSError:  # a file system without links
        os.rename(temporary, target)


def _tell(args: argparse.Namespace, source: Path, target: Path, model: Any, found: Difference | None) -> None:
    sizes = [path.stat().st_size for path in (source, target)]
    parameters = sum(int(np.size(array)) for array in model.params.values())
    print(f"{source} ({sizes[0]:,} bytes) → {target} ({sizes[1]:,} bytes)")
    print(f"model: {type(model).__name__}, {parameters:,} parameters")
    print("not verified" if found is None else f"verified: {found}")
    result(
        source=str(source),
        target=str(target),
        model=type(model).__name__,
        parameters=parameters,
        source_bytes=sizes[0],
        target_bytes=sizes[1],
        verified=found is not None,
        weights_difference=None if found is None else found.weights,
        outputs_difference=None if found is None else found.outputs,
        not_compared=None if found is None else found.why or None,
    )
