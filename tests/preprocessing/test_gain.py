"""Gain multiplies and leaves X as it was."""

import numpy as np
import pytest

from skecg.preprocessing import Gain


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25])
@pytest.mark.parametrize("shape", [(3, 50), (3, 2, 50)])
def test_every_sample_is_multiplied(rng, scale, shape):
    X = rng.standard_normal(shape).astype(np.float32)
    before = X.copy()
    out = Gain(scale).fit_transform(X)
    assert out.shape == shape and out.dtype == np.float32
    assert np.array_equal(out, before * np.float32(scale))
    out[:] = 9
    assert np.array_equal(X, before)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, "2", None])
def test_a_scale_that_is_none(scale):
    with pytest.raises(ValueError, match="scale"):
        Gain(scale).fit(np.zeros((2, 10)))
