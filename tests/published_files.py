"""Files of published weights, in the layouts of their authors, made of networks of width 2."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import torch

from skecg.models import RibeiroNet
from tests.networks import lived_in

CHANNELS = (4, 6, 8, 10)  # of the units at width 2


def trained(variant, n_outputs=6, **settings):
    net = lived_in(RibeiroNet(n_outputs=n_outputs, variant=variant, **{"width": 2, **settings}))
    with torch.no_grad():
        net.lin.bias.uniform_(-1, 1)
    return net


def logits(net, x):
    with torch.no_grad():
        return net(x).numpy()


def keras_layers(net):
    """Return [(kind, arrays)] in the order of the graph, as Keras lists the layers; most of them have no weights."""

    def conv(part):
        return "conv1d", {"kernel": part.weight.detach().numpy().transpose(2, 1, 0)}

    def norm(part):
        given = (part.weight.detach(), part.bias.detach(), part.running_mean, part.running_var)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return "batch_normalization", dict(zip(names, (t.numpy() for t in given), strict=True))

    empty = {kind: (kind, {}) for kind in ("input", "activation", "dropout", "max_pooling1d", "add", "flatten")}
    layers = [empty["input"], conv(net.conv1), norm(net.bn1), empty["activation"]]
    for i in range(4):
        unit = net.get_submodule(f"resblock1d_{i}")
        layers += [conv(unit.conv1), norm(unit.bn1), empty["activation"], empty["dropout"], empty["max_pooling1d"]]
        layers += [conv(unit.conv2), conv(unit.skip_connection[1]), empty["add"], norm(unit.bn2)]
        layers += [empty["activation"], empty["dropout"]]
    kernel = np.empty((net.lin.in_features, net.n_outputs), np.float32)
    for channel in range(CHANNELS[-1]):
        for step in range(16):  # step by step, all channels of a step side by side
            kernel[step * CHANNELS[-1] + channel] = net.lin.weight.detach()[:, channel * 16 + step]
    return [*layers, empty["flatten"], ("dense", {"kernel": kernel, "bias": net.lin.bias.detach().numpy()})]


def write_keras(path, net, style="keras2", weights_only=False):
    """Write the file that the authors' program writes, with the names and attributes of one version of Keras."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        group = file if weights_only else file.create_group("model_weights")
        if not weights_only:
            file.attrs["model_config"] = '{"class_name": "Lambda", "config": "code"}'
            file.create_group("optimizer_weights")["step"] = 7
        names, counts = [], {}
        for kind, arrays in keras_layers(net):
            # the counters of a process that made other models before, and shortcuts that were made first
            counts[kind] = counts.get(kind, 3)
            number = counts[kind] if style != "shuffled" else int(rng.integers(10**9))
            counts[kind] += 1
            names.append(f"{kind}_{number}" if number else kind)
            layer = group.create_group(names[-1])
            ending = "" if style == "keras3" else ":0"
            paths = [f"{names[-1]}/{name}{ending}" for name in arrays]
            for name, array in zip(paths, arrays.values(), strict=True):
                layer[name] = array
            layer.attrs["weight_names"] = listed(paths, style)
        group.attrs["layer_names"] = listed(names, style)
        group.attrs["backend"] = "tensorflow"
    return path


def listed(names, style):
    """Return an attribute of names: Keras hands bytes to h5py, which since 3 stores them as text of any length."""
    if not names:
        return np.array([])
    return np.array(names, dtype="S") if style == "keras2" else [name.encode() for name in names]


def weights_of(file):
    """Return the full names of all data sets of weights, in order of their names."""
    names = []
    file["model_weights"].visititems(lambda name, o: names.append(name) if isinstance(o, h5py.Dataset) else None)
    return [f"model_weights/{name}" for name in names]


def checkpoint(net, **beside):
    """Return what the authors' program saves: the loss is a numpy number, for numpy summed it."""
    optimizer = torch.optim.Adam(net.parameters())
    net.train()(torch.randn(2, 12, 4096)).sum().backward()
    optimizer.step()
    loss = {"valid_loss": np.float64(0.25), **beside}
    return {"epoch": 3, "model": net.eval().state_dict(), **loss, "optimizer": optimizer.state_dict()}


def rename_numpy(path, zipped):
    """Give a file the module name of numpy's numbers before version 2."""
    old, new = b"numpy._core.multiarray", b"numpy.core.multiarray"
    if not zipped:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        return
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    assert any(old in data for data in members.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(old, new))
