"""Modules here that need a peer are not looked at without it."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["torch_loops.py"]
