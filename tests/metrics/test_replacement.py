"""What stands where the ECG is deleted: the bridge against interpolation, the median, numbers and other windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.metrics._replacement import bridged, check_replacement, replaced


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_a_bridge_is_interpolation_between_what_is_left(out, seed):
    x, out = np.random.default_rng(seed).normal(size=(1, 1, len(out))), np.array(out)
    steps = np.arange(len(out))
    expected = np.interp(steps, steps[~out], x[0, 0, ~out]) if not out.all() else np.full(len(out), x.mean())
    found = bridged(x, out[None, None])[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found[~out], x[0, 0, ~out])


def test_bridges_of_windows_and_leads_are_apart(rng):
    x, out = rng.normal(size=(5, 3, 40)).astype(np.float32), rng.random((5, 3, 40)) < 0.6
    out[2, 1] = True
    found = bridged(x, out)
    assert found.dtype == np.float32
    for i in range(5):
        for lead in range(3):
            alone = bridged(x[i, lead][None, None], out[i, lead][None, None])
            np.testing.assert_array_equal(found[i, lead], alone[0, 0])
    np.testing.assert_allclose(found[2, 1], x[2, 1].mean(), rtol=1e-6)


def test_other_replacements(rng):
    x, out = rng.normal(size=(4, 2, 10)).astype(np.float32), rng.random((4, 2, 10)) < 0.5
    other = rng.normal(size=(4, 2, 10))
    for replacement, expected in [
        ("isoelectric", np.median(x, axis=-1, keepdims=True)),
        (0.25, np.float32(0.25)),
        (other[0], other[:1].astype(np.float32)),
        (other, other.astype(np.float32)),
    ]:
        found = replaced(x, out, replacement, check_replacement(replacement, x.shape))
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, np.where(out, expected, x))


def test_windows_without_lead_axis():
    assert check_replacement(np.zeros(10), (4, 10)).shape == (1, 1, 10)
    assert check_replacement(np.zeros((4, 10)), (4, 10)).shape == (4, 1, 10)


@pytest.mark.parametrize(
    ("replacement", "error", "message"),
    [
        ("zeros", ValueError, 'replacement must be "bridge", "isoelectric".*got \'zeros\''),
        (None, TypeError, "replacement must be .*NoneType"),
        (True, TypeError, "got bool of bool"),
        (np.nan, ValueError, "replacement holds NaN"),
        (np.zeros(9), ValueError, r"replacement has shape \(9,\); expected \(2, 10\), one window, or \(4, 2, 10\)"),
        (np.zeros((4, 10)), ValueError, r"replacement has shape \(4, 10\)"),
    ],
)
def test_bad_input_is_named(replacement, error, message):
    with pytest.raises(error, match=message):
        check_replacement(replacement, (4, 2, 10))
