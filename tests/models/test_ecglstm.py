"""ECGLSTM against its layer list written out with torch's cells."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skecg.models import ECGLSTM
from tests.networks import n_parameters


@pytest.mark.parametrize("n_leads, n_outputs, width, step", [(1, 8, 40, 72), (1, 3, 40, 72), (12, 5, 6, 50)])
def test_number_of_parameters(seeded, n_leads, n_outputs, width, step):
    gates = 4 * width * ((step * n_leads + width + 2) + (width + width + 2))  # torch: two biases a layer
    net = ECGLSTM(n_leads, 720, n_outputs, width=width, step=step)
    assert n_parameters(net) == gates + n_outputs * (width + 1)


def test_defaults_are_the_authors(seeded):
    (lstm,) = [m for m in ECGLSTM().modules() if isinstance(m, nn.LSTM)]
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bidirectional) == (72, 40, 2, False)
    assert n_parameters(ECGLSTM()) == n_parameters(ECGLSTM(1, 720, 8)) == 31_688


@pytest.mark.parametrize("n_timesteps", [1, 72, 100, 720])
def test_forward_is_two_layers_over_the_steps_and_one_dense(seeded, n_timesteps):
    net = ECGLSTM(2, n_timesteps, 3, width=5).double().eval()
    x = torch.randn(4, 2, n_timesteps, dtype=torch.float64)
    (lstm,) = [m for m in net.modules() if isinstance(m, nn.LSTM)]
    padded = F.pad(x, (0, -n_timesteps % 72))
    state = [(torch.zeros(4, 5, dtype=torch.float64),) * 2 for _ in range(2)]
    cells = []
    for weights in lstm.all_weights:
        cell = nn.LSTMCell(weights[0].shape[1], 5).double()
        for own, given in zip(cell.parameters(), weights, strict=True):
            own.data = given.data
        cells.append(cell)
    with torch.no_grad():
        for start in range(0, padded.shape[-1], 72):
            h = torch.cat([padded[:, 0, start : start + 72], padded[:, 1, start : start + 72]], 1)
            for i, cell in enumerate(cells):
                state[i] = cell(h, state[i])
                h = state[i][0]
        want = h @ net.dense.weight.T + net.dense.bias
        assert torch.allclose(net(x), want, rtol=1e-10, atol=1e-12)
    assert want.std(0).max() > 1e-3


def test_dropout_acts_between_the_layers_in_training_alone(seeded):
    net, x = ECGLSTM(1, 720, 3, width=8, dropout=0.5), torch.randn(4, 1, 720)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))
        still = ECGLSTM(1, 720, 3, width=8)
        assert torch.equal(still(x), still(x))


def test_it_has_no_layer_for_grad_cam():
    assert ECGLSTM.cam_layer is None


def test_copies_and_pickles_are_the_same_network(seeded):
    net, x = ECGLSTM(12, 400, 3, width=4).eval(), torch.randn(2, 12, 400)
    other = ECGLSTM(12, 400, 3, width=4).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        want = net(x)
        assert all(torch.equal(n(x), want) for n in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other))


@pytest.mark.parametrize(
    "bad", [{"n_leads": 0}, {"n_timesteps": 0}, {"n_outputs": 0}, {"width": 0}, {"step": 0}, {"dropout": 1}], ids=str
)
def test_bad_parameters_are_named(seeded, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        ECGLSTM(**bad)


@pytest.mark.parametrize("shape", [(2, 720), (2, 2, 720), (2, 1, 0)])
def test_input_of_another_shape_is_refused(seeded, shape):
    with pytest.raises(ValueError, match=r"n_samples, 1, n_timesteps"):
        ECGLSTM()(torch.zeros(shape))
