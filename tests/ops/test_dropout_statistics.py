"""How random the mask is. It is the same on each instruction set (test_dropout.py), so once is enough."""

import numpy as np
import pytest

from fastrnn import _core
from tests.ops.test_dropout import hash_of


@pytest.fixture(autouse=True)
def isa():
    """Any."""


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_statistics(p):
    """Means, correlations along lags (rows of a layer) and between seeds, within 5 standard deviations."""
    n = 1 << 19
    keep = [_core.dropout_mask(n, p, seed) for seed in (0, 1, 2, 1 << 32, 0x9E3779B97F4A7C15)]
    z = [(k - (1 - p)) / np.sqrt(p * (1 - p)) for k in keep]
    limit = 5 / np.sqrt(n)
    assert abs(np.mean(z, axis=1)).max() < limit
    for lag in (1, 2, 4, 16, 96, 128, 256, 1000, 1024, 65536):
        assert abs(np.mean(z[0][lag:] * z[0][:-lag])) < limit * 1.1, lag
    for i in range(len(z)):
        for j in range(i):
            assert abs(np.mean(z[i] * z[j])) < limit, (i, j)
    columns = z[0].reshape(-1, 512).mean(0)  # no unit is favoured
    assert abs(columns).max() < 5 / np.sqrt(n / 512)


def test_hash_bits_are_even():
    """Every bit of the hash is 1 half of the time, and no two bits agree more often."""
    h = hash_of(1 << 15, 3)
    bits = ((h[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)) * 2.0 - 1
    correlation = np.einsum("ni,nj->ij", bits, bits) / len(h)
    assert abs(correlation - np.eye(32)).max() < 5.5 / np.sqrt(len(h))
    assert abs(bits.mean(0)).max() < 5 / np.sqrt(len(h))
