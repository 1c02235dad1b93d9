"""GELU: the activation of many Transformers."""

from fastrnn.nn.activations import _Elementwise


class GELU(_Elementwise):
    """`x · Φ(x)`, Φ the distribution function of the normal distribution; exact, not the approximation by tanh.

    References
    ----------
    Hendrycks, Gimpel: Gaussian Error Linear Units, 2016.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> fr.GELU()(np.array([-30.0, 0.0, 1.0, 30.0])).round(6)
    array([-0.      ,  0.      ,  0.841345, 30.      ])
    """

    _kernel = "gelu"
    _needs_x = True
