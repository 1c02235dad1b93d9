"""Gates in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reorder_gates(a: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Put the blocks of a weight or bias into another gate order.

    Parameters
    ----------
    a : array, [G·H, ...]
    source, target : str
        One letter for each gate, the same letters in both: "ifog" and "ifgo", "rzn" and "zrn".

    Returns
    -------
    array, [G·H, ...]
        A copy.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import functional as F
    >>> F.reorder_gates(np.array([1, 2, 3, 4]), "ifog", "ifgo")
    array([1, 2, 4, 3])
    """
    return _check.gate_blocks(a, source, target)[[source.index(g) for g in target]].reshape(np.shape(a))
