"""What fastrnn does with Numba."""
