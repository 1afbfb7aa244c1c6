""""Same" padding at every length, kernel and stride, against the definition written out sample by sample."""

import math

import pytest
import torch
import torch.nn.functional as F

from skecg.models._layers import SameConv1d, SameConv2d, he_normal_, same_padding


def by_definition(x, weight, bias, stride):
    """Put one output after the other: ceil(L / stride) of them, missing samples zero, the odd one on the right."""
    length, kernel = x.shape[-1], weight.shape[-1]
    n_out = math.ceil(length / stride)
    left = max((n_out - 1) * stride + kernel - length, 0) // 2
    out = torch.zeros(len(x), len(weight), n_out, dtype=x.dtype)
    for i in range(n_out):
        for tap in range(kernel):
            sample = i * stride - left + tap
            if 0 <= sample < length:
                out[:, :, i] += x[:, :, sample] @ weight[:, :, tap].T
    return out if bias is None else out + bias[:, None]


@pytest.mark.parametrize("kernel, stride", [(16, 1), (16, 2), (5, 1), (5, 2), (2, 1), (1, 1), (1, 3), (16, 4), (3, 5)])
def test_convolution_in_one_dimension(seeded, kernel, stride):
    conv = SameConv1d(2, 3, kernel, stride=stride, bias=kernel != 5).double()
    for length in [*range(1, 35), 64]:
        x = torch.randn(2, 2, length, dtype=torch.float64)
        with torch.no_grad():
            got, want = conv(x), by_definition(x, conv.weight, conv.bias, stride)
        assert got.shape == want.shape == (2, 3, math.ceil(length / stride))
        assert torch.allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel, stride", [(5, 1), (5, 2), (4, 2)])
def test_convolution_in_two_dimensions(seeded, kernel, stride):
    conv = SameConv2d(2, 3, kernel, stride=stride).double()
    for rows, columns in [(1, 1), (1, 5), (2, 3), (3, 2), (4, 9), (11, 6), (8, 8)]:
        x = torch.randn(2, 2, rows, columns, dtype=torch.float64)
        above, beside = same_padding(rows, kernel, stride), same_padding(columns, kernel, stride)
        with torch.no_grad():
            got = conv(x)
            want = F.conv2d(F.pad(x, (*beside, *above)), conv.weight, conv.bias, stride)
        assert got.shape == (2, 3, math.ceil(rows / stride), math.ceil(columns / stride))
        assert torch.allclose(got, want, rtol=0, atol=1e-12)


def test_taps_that_meet_no_sample_have_no_gradient_and_the_others_have(seeded):
    conv = SameConv1d(1, 1, 16)
    conv(torch.rand(1, 1, 3) + 1).sum().backward()
    assert (conv.weight.grad[0, 0] != 0).nonzero().flatten().tolist() == [5, 6, 7, 8, 9]  # 7 is the one in place


@pytest.mark.parametrize(
    "length, kernel, stride, padding",
    [(720, 16, 1, (7, 8)), (720, 16, 2, (7, 7)), (45, 16, 2, (7, 8)), (21, 5, 2, (2, 2)), (6, 5, 2, (1, 2))],
)
def test_published_padding(length, kernel, stride, padding):
    assert same_padding(length, kernel, stride) == padding


def test_first_weights_are_a_cut_normal(seeded):
    weight = he_normal_(torch.empty(200, 32, 16))
    sd = math.sqrt(2 / (32 * 16))
    assert weight.std() == pytest.approx(sd, rel=0.01)
    assert weight.abs().max() <= 2 * sd / 0.8796 + 1e-6
