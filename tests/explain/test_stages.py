"""The stages of networks: traced lengths of maps, and layers that all of a later one is computed from."""

import pytest
from torch import nn

from skecg.explain._stages import find_stages
from skecg.models import ECGNet, HannunNet, ResNet1d, RibeiroNet, ZihlmannCNN
from skecg.utils._twin import private_twin
from tests.tiny import TinyNet, same_snapshot, snapshot

pytestmark = pytest.mark.usefixtures("seeded")


def names(net, shape, last=None):
    twin = private_twin(net.eval())
    return [(stage.name, stage.length) for stage in find_stages(twin, shape, last or net.cam_layer)]


def test_resnet_ends_its_stages_with_a_relu():
    assert names(ResNet1d(width=1), (1, 2880)) == [
        ("relu", 1440),
        ("stages.0.1.relu2", 720),
        ("stages.1.1.relu2", 360),
        ("stages.2.1.relu2", 180),
        ("stages.3.1.relu2", 90),
    ]


def test_ecgnet_ends_them_with_the_sum_before_a_pooling():
    blocks = [("cnn.blocks.1", 360), ("cnn.blocks.3", 180), ("cnn.blocks.5", 90), ("cnn.blocks.7", 45)]
    assert names(ECGNet(1, 720, 2, width=1), (1, 720)) == blocks
    # the LSTM beside it also reads the input, which does not count: the layer is computed from the CNN alone
    assert names(ECGNet(1, 720, 2, width=1), (1, 720), last="cnn.blocks.5") == blocks[:3]


def test_hannun_and_ribeiro_end_them_with_sums_not_with_layers_beside_the_shortcut():
    hannun = names(HannunNet(1, 720, 2, width=1), (1, 720))
    assert hannun == [("blocks.2", 360), ("blocks.4", 180), ("blocks.6", 90), ("blocks.8.pre.1", 45)]
    ribeiro = names(RibeiroNet(width=1), (12, 4096))
    assert [length for _, length in ribeiro] == [1024, 256, 64, 16]
    assert [name for name, _ in ribeiro[:3]] == [f"resblock1d_{i}.add" for i in range(3)]


def test_a_spectrogram_and_a_network_of_one_length_have_the_layer_alone():
    net = ZihlmannCNN(1, 720, 2, width=1)
    assert names(net, (1, 720)) == [(net.cam_layer, 0)]
    assert names(TinyNet(2, 20, 2), (2, 20)) == [("features", 10)]  # before it the map is as long as the input


class Branching(nn.Module):
    """Two ways from the stem to the end, which join at ``join``: no layer of one way alone is a stage."""

    cam_layer = "last"

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 2, 2, stride=2)
        self.left, self.right = nn.Conv1d(2, 3, 2, stride=2), nn.Conv1d(2, 3, 2, stride=2)
        self.join = nn.Identity()
        self.last = nn.Conv1d(3, 3, 2, stride=2)
        self.again = nn.Identity()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = self.stem(self.again(x))
        x = self.join(self.left(x).relu() + self.right(self.again(x)))
        return self.head(self.last(x).mean(-1))


def test_layers_of_one_way_and_layers_called_twice_are_no_stages():
    assert names(Branching(), (1, 64)) == [("stem", 32), ("join", 16), ("last", 8)]


class InPlace(nn.Module):
    """The ReLU writes into the map of the convolution before it."""

    cam_layer = "last"

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 2, 2, stride=2), nn.ReLU(inplace=True))
        self.last, self.head = nn.Conv1d(2, 2, 2, stride=2), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.last(self.net(x)).mean(-1))


def test_what_writes_in_place_is_traced():
    assert names(InPlace(), (1, 16)) == [("net.1", 8), ("last", 4)]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_on_the_network(fails):
    net = private_twin(ResNet1d(width=1).eval())
    before = snapshot(net)
    if fails:
        with pytest.raises(ValueError, match="x must be"):
            find_stages(net, (3, 64), net.cam_layer)
    else:
        find_stages(net, (1, 64), net.cam_layer)
    assert same_snapshot(snapshot(net), before)
