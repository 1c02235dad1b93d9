"""Recurrent networks on the CPU, faster than any framework, from plain NumPy arrays."""
