"""Facts about the machine that belong to every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.bench.peers import PEERS, here

__all__ = ["cpu_model", "facts", "lines"]


def cpu_model() -> str:
    """Return the name of the CPU, with family and model where the name says little."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    first = text.partition("\n\n")[0]
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}
    if "model name" in fields:
        numbers = [f"{key.removeprefix('cpu ')} {fields[key]}" for key in ("cpu family", "model") if key in fields]
        return f"{fields['model name']} ({', '.join(numbers)})" if numbers else fields["model name"]
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """Return CPU, cores, instruction set, load and versions.

    Examples
    --------
    >>> sorted(facts())
    ['cpu', 'cpus', 'isa', 'isas', 'load', 'os', 'python', 'versions']
    """
    info = fastrnn.info()
    versions = {name: here(name).version() for name in PEERS}
    return {
        "cpu": cpu_model(),
        "cpus": info["cpus"],  # that this process may use
        "isa": info["isa"],
        "isas": info["isas"],
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # of the last minute, before
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {**{name: v for name, v in versions.items() if v is not None}, "numpy": np.__version__},
    }


def lines(known: dict[str, Any]) -> list[str]:
    """Return facts as lines to print.

    Examples
    --------
    >>> sample = {"cpu": "A CPU", "cpus": 2, "isa": "avx2", "load": 0.1, "os": "Linux", "python": "3.11"}
    >>> print(*lines({**sample, "versions": {"fastrnn": "1.0"}}), sep="\\n")
    A CPU, 2 CPUs, avx2, load 0.1
    Linux, Python 3.11, fastrnn 1.0
    """
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    load = "" if known["load"] is None else f", load {known['load']}"
    return [
        f"{known['cpu']}, {known['cpus']} CPU{'s' * (known['cpus'] != 1)}, {known['isa']}{load}",
        f"{known['os']}, Python {known['python']}, {versions}",
    ]
