"""Proof of gradients by central finite differences, for any test that has a function and a pullback.

A function with outputs ``y`` and a cotangent ``dy`` make the number ⟨y, dy⟩, whose gradient with respect to each input
is what the pullback returns for ``dy``. `check_gradients` compares the two. Outputs and cotangents may be nested tuples
and lists of arrays, with None for a cotangent of zeros.
"""

import numpy as np

STEP = 1e-5  # error of a central difference: about STEP² from the third derivative, 1e-16 / STEP from rounding
TOLERANCE = 1e-6


def relative_error(actual, expected):
    """Largest difference over the largest magnitude of ``expected``; infinite for NaN or an unexpected non-zero."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.size == 0:
        return 0.0
    difference = np.abs(actual - expected).max()
    if difference == 0:
        return 0.0
    scale = np.abs(expected).max()
    error = difference / scale if scale > 0 else np.inf
    return error if np.isfinite(error) else np.inf


def assert_close(actual, expected, tolerance=TOLERANCE, what="array"):
    """Assert that two arrays have one shape and that their relative error is within ``tolerance``."""
    assert np.shape(actual) == np.shape(expected), f"{what}: shape {np.shape(actual)}, expected {np.shape(expected)}"
    error = relative_error(actual, expected)
    assert error <= tolerance, f"{what}: relative error {error:.2e}, allowed {tolerance:.0e}"


def inner(outputs, cotangents):
    """⟨outputs, cotangents⟩ over nested tuples of arrays."""
    if cotangents is None:
        return 0.0
    if isinstance(outputs, (tuple, list)):
        assert len(outputs) == len(cotangents)
        return sum(inner(o, c) for o, c in zip(outputs, cotangents))
    assert np.shape(outputs) == np.shape(cotangents)
    return float(np.sum(np.asarray(outputs) * cotangents))


def numerical_gradient(f, x, step=STEP):
    """Gradient of the number ``f()`` with respect to the float64 array ``x``, which ``f`` reads.

    ``x`` is changed in place one element at a time, and restored.
    """
    assert x.dtype == np.float64, "finite differences need float64"
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        original = x[index]
        x[index] = original + step
        above = f()
        x[index] = original - step
        below = f()
        x[index] = original
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check_gradients(forward, inputs, cotangents, gradients, tolerance=TOLERANCE, step=STEP):
    """Assert that gradients are those of ⟨forward(), cotangents⟩.

    Parameters
    ----------
    forward : function without arguments that returns the outputs, computed from the arrays in ``inputs``
    inputs : dict name -> float64 array
    cotangents : like the outputs, None for zeros
    gradients : dict name -> array, for exactly the names in ``inputs``
    """
    assert set(inputs) == set(gradients), "each input needs a gradient, each gradient an input"
    for name, x in inputs.items():
        expected = numerical_gradient(lambda: inner(forward(), cotangents), x, step)
        assert_close(gradients[name], expected, tolerance, f"gradient of {name}")
