"""Published weights: files of the authors' layouts give the same network, all others are refused and run nothing."""

import codecs
import pathlib
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch

from skecg.classifiers import ECGClassifier
from skecg.models import RIBEIRO_LABELS, RIBEIRO_THRESHOLDS, RibeiroNet, load_ribeiro, read_weights
from tests.networks import lived_in

CHANNELS = (4, 6, 8, 10)  # of the units at width 2


@pytest.fixture
def keras(seeded):
    return trained("keras")


@pytest.fixture
def pytorch(seeded):
    return trained("pytorch", 1)


def trained(variant, n_outputs=6, **settings):
    net = lived_in(RibeiroNet(n_outputs=n_outputs, variant=variant, **{"width": 2, **settings}))
    with torch.no_grad():
        net.lin.bias.uniform_(-1, 1)
    return net


@pytest.fixture
def x(seeded):
    return torch.randn(2, 12, 4096)


def logits(net, x):
    with torch.no_grad():
        return net(x).numpy()


# --- Keras files ------------------------------------------------------------------------------------------------------


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


@pytest.fixture
def h5(tmp_path, keras):
    return write_keras(tmp_path / "model.hdf5", keras)


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("style", ["keras2", "keras3", "shuffled"])
def test_keras_files_give_the_network(tmp_path, keras, x, style, weights_only):
    path = write_keras(tmp_path / "any.name", keras, style, weights_only)
    state = read_weights(path)
    want = keras.state_dict()
    assert list(state) == list(want)
    assert all(torch.equal(state[name], want[name]) and state[name].dtype == want[name].dtype for name in want)
    net = load_ribeiro(str(path), variant="keras")
    assert not net.training and all(p.requires_grad for p in net.parameters())
    assert np.array_equal(logits(net, x), logits(keras, x))


def test_dense_layer_reads_the_map_step_by_step(h5, x):
    net, maps = load_ribeiro(h5), []
    net.resblock1d_3.relu2.register_forward_hook(lambda m, i, o: maps.append(o))
    got = logits(net, x)
    with h5py.File(h5) as file:
        (dense,) = [group for name, group in file["model_weights"].items() if name.startswith("dense")]
        kernel, bias = (next(iter(dense.values()))[part][()] for part in ("kernel:0", "bias:0"))
    flat = np.stack([maps[0][:, :, step].numpy() for step in range(16)], 1).reshape(2, -1)  # (n, steps, channels)
    np.testing.assert_allclose(got, flat @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_published_size(tmp_path, seeded):
    net = trained("pytorch", 1, width=64)
    torch.save({"model": net.state_dict()}, tmp_path / "model.pth")
    loaded = load_ribeiro(tmp_path / "model.pth")
    assert sum(p.numel() for p in loaded.parameters()) == 6_924_705


def test_double_precision_is_taken_as_single(tmp_path, h5, keras):
    with h5py.File(h5, "r+") as file:
        for name in weights_of(file):
            array = file[name][()]
            del file[name]
            file[name] = array.astype(np.float64)
    assert torch.equal(read_weights(h5)["conv1.weight"], keras.conv1.weight)


def weights_of(file):
    """Return the full names of all data sets of weights, in order of their names."""
    names = []
    file["model_weights"].visititems(lambda name, o: names.append(name) if isinstance(o, h5py.Dataset) else None)
    return [f"model_weights/{name}" for name in names]


def test_from_a_file_to_a_classifier(h5, keras, x):
    clf = ECGClassifier.from_module(
        load_ribeiro(h5), RIBEIRO_LABELS, n_leads=12, n_timesteps=4096, multilabel=True,
        threshold=RIBEIRO_THRESHOLDS, fs=400, device="cpu",
    )  # fmt: skip
    p = 1 / (1 + np.exp(-logits(keras, x).astype(float)))
    np.testing.assert_allclose(clf.predict_proba(x.numpy()), p, rtol=1e-4, atol=1e-6)
    assert list(clf.classes_) == list(RIBEIRO_LABELS) and clf.fs == 400
    assert np.array_equal(clf.predict(x.numpy()), p >= RIBEIRO_THRESHOLDS)


def test_h5py_is_named_where_it_is_missing(h5, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install skecg\[hdf5\]"):
        read_weights(h5)


# --- Keras files that are refused -------------------------------------------------------------------------------------


def replace(file, name, make):
    """Put something else in the place of a data set, made from its array, its group and its name there."""
    array = file[name][()]
    del file[name]
    parent, leaf = name.rsplit("/", 1)
    make(file[parent], leaf, array)


def first(file, ending="kernel:0", kind="conv1d"):
    return next(name for name in weights_of(file) if name.endswith(ending) and f"/{kind}_" in name)


def soft_link(file, folder):
    file["elsewhere"] = file[first(file)][()]
    replace(file, first(file), lambda group, leaf, array: group.__setitem__(leaf, h5py.SoftLink("/elsewhere")))


def external_link(file, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["secret"] = file[first(file)][()]
    link = h5py.ExternalLink(str(folder / "secret.h5"), "/secret")
    replace(file, first(file), lambda group, leaf, array: group.__setitem__(leaf, link))


def external_link_for_all(file, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        file.copy("model_weights", other)
    del file["model_weights"]
    file["model_weights"] = h5py.ExternalLink(str(folder / "secret.h5"), "/model_weights")


def external_storage(file, folder):
    def make(group, leaf, array):
        (folder / "secret").write_bytes(array.tobytes())
        group.create_dataset(leaf, array.shape, "f4", external=[(str(folder / "secret"), 0, array.nbytes)])

    replace(file, first(file), make)


def virtual_data_set(file, folder):
    def make(group, leaf, array):
        with h5py.File(folder / "secret.h5", "w") as other:
            other["secret"] = array
        layout = h5py.VirtualLayout(array.shape, "f4")
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "secret", array.shape)
        group.create_virtual_dataset(leaf, layout)

    replace(file, first(file), make)


def with_type(dtype):
    def change(file, folder):
        replace(file, first(file), lambda group, leaf, array: group.create_dataset(leaf, array.shape, dtype))

    return change


def with_array(change, **which):
    def changed(file, folder):
        replace(file, first(file, **which), lambda group, leaf, array: group.__setitem__(leaf, change(array)))

    return changed


def declared_only(file, folder):
    replace(file, first(file), lambda group, leaf, array: group.create_dataset(leaf, array.shape, "f4"))


def eight_terabytes(file, folder):
    shape = (16, 12, 10**10)
    replace(file, first(file), lambda group, leaf, array: group.create_dataset(leaf, shape, "f4"))


def huge_pieces(file, folder):
    def make(group, leaf, array):
        group.create_dataset(leaf, data=array, maxshape=(None,) * 3, chunks=(2**7,) * 3, compression="gzip")

    replace(file, first(file), make)


def partly_written(file, folder):
    def make(group, leaf, array):
        group.create_dataset(leaf, array.shape, "f4", chunks=(4, 12, 2))[:4] = array[:4]

    stem = next(name for name in weights_of(file) if file[name].shape == (16, 12, 2))
    replace(file, stem, make)


def packed(file, folder):
    def make(group, leaf, array):
        group.create_dataset(leaf, data=array, chunks=array.shape, compression="gzip")

    replace(file, first(file), make)


def filter_of_nobody(file, folder):
    def make(group, leaf, array):
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk(array.shape)
        layout.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple(array.shape)
        data = h5py.h5d.create(group.id, leaf.encode(), h5py.h5t.IEEE_F32LE, space, layout)
        data.write_direct_chunk((0,) * array.ndim, array.tobytes(), 1)  # as if the filter had been left out

    replace(file, first(file), make)


def long_names(file, folder):
    group = file["model_weights"]
    del group.attrs["layer_names"]
    # as many bytes as a text in one heap may have: each of these names may be the first one
    group.attrs["layer_names"] = ["n" * 3_000_000, *(f"m{i}" for i in range(400))]


def eleven_leads(file, folder):
    stem = next(name for name in weights_of(file) if file[name].ndim == 3 and file[name].shape[1] == 12)
    replace(file, stem, lambda group, leaf, array: group.__setitem__(leaf, array[:, :11]))


def one_layer_less(file, folder):
    group = file["model_weights"]
    names = list(group.attrs["layer_names"])
    names.remove(next(name for name in names if name.startswith(b"conv1d")))
    group.attrs["layer_names"] = names


def an_lstm(file, folder):
    group = file["model_weights"]
    group["lstm/lstm/kernel:0"] = np.zeros((3, 4, 5, 6), np.float32)
    group["lstm"].attrs["weight_names"] = [b"lstm/kernel:0"]
    group.attrs["layer_names"] = [*group.attrs["layer_names"], b"lstm"]


def a_group_for_weights(file, folder):
    replace(file, first(file), lambda group, leaf, array: group.create_group(leaf))


def numbers_for_names(file, folder):
    file["model_weights"].attrs["layer_names"] = np.arange(5.0)


def names_that_are_not_there(file, folder):
    group = file["model_weights"]
    layer = group[first(file).split("/")[1]]
    layer.attrs["weight_names"] = [b"../../kernel:0"]


def no_names(file, folder):
    del file["model_weights"].attrs["layer_names"]


def keras_3_weights(file, folder):
    for name in list(file):
        del file[name]
    file["layers/conv1d/vars/0"] = np.zeros(3)


HDF5_REFUSED = {
    soft_link: "SoftLink",
    external_link: "ExternalLink",
    external_link_for_all: "ExternalLink",
    external_storage: "another file",
    virtual_data_set: "another file",
    with_type(h5py.string_dtype()): "instead of floats",
    with_type(h5py.vlen_dtype(np.float32)): "instead of floats",
    with_type(h5py.ref_dtype): "instead of floats",
    with_type(np.int32): "instead of floats",
    with_array(lambda array: np.where(array == array.max(), np.nan, array)): "NaN",
    with_array(lambda array: -array, ending="moving_variance:0", kind="batch_normalization"): "negative",
    with_array(lambda array: array[:-1], kind="dense"): r"\(159, 6\).*\(160, 6\)",
    with_array(lambda array: array[:5], ending="bias:0", kind="dense"): r"\(5,\).*\(6,\)",
    declared_only: "never written",
    eight_terabytes: "10000000000",
    huge_pieces: "pieces",
    packed: "compressed, which Keras never does",
    filter_of_nobody: "compressed, which Keras never does",
    partly_written: "pieces",
    long_names: "401 entries of layer_names .* may be far longer than names",
    eleven_leads: "11 leads instead of 12",
    one_layer_less: "8 convolutions",
    an_lstm: r"lstm.*\(3, 4, 5, 6\)",
    a_group_for_weights: "no data set",
    numbers_for_names: "no list of names",
    names_that_are_not_there: "is not there",
    no_names: "no Keras file",
    keras_3_weights: r"\.weights\.h5 of Keras 3",
}


@pytest.mark.parametrize("change, match", HDF5_REFUSED.items(), ids=[f"{i}" for i in range(len(HDF5_REFUSED))])
def test_keras_files_that_are_not_as_the_authors_write_them(tmp_path, h5, change, match):
    with h5py.File(h5, "r+") as file:
        change(file, tmp_path)
    with pytest.raises(ValueError, match=rf"(?s)model\.hdf5.*{match}.*expected is the Keras"):
        read_weights(h5)


def test_many_names_that_are_one_text_of_the_file_take_no_memory(tmp_path, h5):
    length = 2_000_000
    with h5py.File(h5, "r+") as file:
        long_names(file, tmp_path)
        file["model_weights"].attrs["layer_names"] = ["n" * length, *(f"m{i}" for i in range(900))]
    data = bytearray(h5.read_bytes())
    at = data.index(struct.pack("<I", length))  # the first entry: its length, and where it lies
    while struct.unpack("<I", data[at + 16 : at + 20])[0] != 2:
        at = data.index(struct.pack("<I", length), at + 1)
    for i in range(1, 901):
        data[at + 16 * i : at + 16 * (i + 1)] = data[at : at + 16]
    h5.write_bytes(data)
    with pytest.raises(ValueError, match="901 entries of layer_names") as caught:  # 1.8 GB of them
        read_weights(h5)
    assert "truncated" not in str(caught.value)


def test_no_memory_is_not_taken_for_a_damaged_file(h5, monkeypatch):
    def full(*args, **settings):
        raise MemoryError("no room")

    monkeypatch.setattr(h5py, "File", full)
    with pytest.raises(MemoryError, match="no room"):
        read_weights(h5)


def test_all_that_is_left_out_of_a_keras_file_is_never_touched(tmp_path, h5, keras):
    with h5py.File(h5, "r+") as file:
        file["model_weights/unlisted"] = h5py.ExternalLink("/nowhere/at/all", "/x")
        file["optimizer_weights/linked"] = h5py.SoftLink("/nowhere")
        file["texts"] = ["code"]
    assert torch.equal(read_weights(h5)["lin.bias"], keras.lin.bias)


# --- PyTorch files ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy_before_2", [True, False])
@pytest.mark.parametrize("loss", [np.float64(0.25), np.float32(0.25)])
def test_checkpoints_give_the_network(tmp_path, pytorch, x, zipped, numpy_before_2, loss):
    path = tmp_path / "model.pth"
    torch.save(checkpoint(pytorch, valid_loss=loss), path, _use_new_zipfile_serialization=zipped)
    if numpy_before_2:
        rename_numpy(path, zipped)
    allowed = set(torch.serialization.get_safe_globals())
    state, want = read_weights(path), pytorch.state_dict()
    assert set(torch.serialization.get_safe_globals()) == allowed
    assert list(state) == list(want) and all(torch.equal(state[name], want[name]) for name in want)
    net = load_ribeiro(path, variant="pytorch")
    assert net.variant == "pytorch" and net.n_outputs == 1 and not net.training
    assert np.array_equal(logits(net, x), logits(pytorch, x))


@pytest.fixture
def safe_globals():
    """Give back torch's list of what may be loaded."""
    before = torch.serialization.get_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def test_what_the_user_allowed_torch_to_load_stays_allowed(tmp_path, pytorch, safe_globals):
    torch.save(checkpoint(pytorch), tmp_path / "model.pth")
    own = [type(np.dtype("f8")), codecs.encode, pathlib.PurePosixPath]
    torch.serialization.add_safe_globals(own)
    read_weights(tmp_path / "model.pth")
    assert set(own) <= set(torch.serialization.get_safe_globals())


def test_threads_read_at_the_same_time(tmp_path, pytorch):
    torch.save(checkpoint(pytorch), tmp_path / "model.pth")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            states = list(pool.map(lambda _: read_weights(tmp_path / "model.pth"), range(24)))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(state["lin.weight"], pytorch.lin.weight) for state in states)


@pytest.mark.parametrize("variant", ["keras", "pytorch"])
def test_a_state_dict_alone_gives_the_network_of_its_variant(tmp_path, seeded, x, variant):
    net = trained(variant, 3)
    torch.save(net.state_dict(), tmp_path / "state.pt")
    loaded = load_ribeiro(tmp_path / "state.pt")
    assert loaded.variant == variant and np.array_equal(logits(loaded, x), logits(net, x))


def test_counters_of_batches_may_be_missing(tmp_path, pytorch):
    state = {name: t for name, t in pytorch.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(state) == 72 - 11 == len(pytorch.state_dict()) - 11
    torch.save({"model": state}, tmp_path / "old.pth")
    assert read_weights(tmp_path / "old.pth")["bn1.num_batches_tracked"] == 0


# --- PyTorch files that are refused -----------------------------------------------------------------------------------


class Evil:
    """What leaves a file behind where it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.canary),)


class Calls:
    """What is a call of a function where it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def test_the_canary_sings_where_it_is_unpickled(canary):
    pickle.loads(pickle.dumps(Evil(canary)))
    assert canary.exists()


@pytest.mark.parametrize("how", ["zip", "legacy", *range(6), "folder", "hidden"])
def test_nothing_in_a_file_is_run(tmp_path, canary, pytorch, how):
    path, holding = tmp_path / "model.pth", {"model": pytorch.state_dict(), "valid_loss": Evil(canary)}
    if how in ("zip", "legacy"):
        torch.save(holding, path, _use_new_zipfile_serialization=how == "zip")
    elif how == "hidden":  # behind the marks of a file of torch
        with path.open("wb") as file:
            for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Evil(canary), []):
                pickle.dump(part, file, protocol=2)
    elif how == "folder":
        path.mkdir()
        (path / "data.pkl").write_bytes(pickle.dumps(Evil(canary)))
    else:
        path.write_bytes(pickle.dumps(Evil(canary), protocol=how))
    with pytest.raises(ValueError, match=r"(?s)model\.pth.*expected is the Keras"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read_weights(path)
    assert not canary.exists()


BOMBS = {
    "bytearray": Calls(bytearray, 10**13),
    "numpy's types": Calls(np.dtype, "V1000000000000"),
    "codecs": Calls(codecs.encode, b"x", "hex"),
    "texts of any length": "x" * 5000,
}
for _ in range(60):
    BOMBS["codecs"] = Calls(codecs.encode, BOMBS["codecs"], "hex")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("bomb", BOMBS)
def test_files_cannot_ask_for_more_memory_than_weights_need(tmp_path, keras, bomb, zipped):
    holding = {"model": keras.state_dict(), "x": BOMBS[bomb]}
    torch.save(holding, tmp_path / "b.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"b\.pth gives no weights: it (asks|has a text)"):
        read_weights(tmp_path / "b.pth")


def repack(path, compression=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {**members, **more}.items():
            archive.writestr(name, data)


def deflated(path):
    repack(path, zipfile.ZIP_DEFLATED, zeros=bytes(5_000_000))


def larger_inside(path):
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31 - 1, 2**31 - 1)
    path.write_bytes(data)


def outside(path):
    repack(path, **{"../outside": b""})


def arrays_of_numpy(path):
    np.savez(path.with_suffix(".npz"), a=np.arange(3))
    path.with_suffix(".npz").rename(path)


def archive_of_keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


def two_of_one_name(path):
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("model/data.pkl", archive.read("model/data.pkl"))


def two_of_one_name_but_for_case(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/DATA.pkl", archive.read("model/data.pkl"))


def a_pickle_in_upper_case(path):
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    members["other/data.pkl"] = members.pop("model/data.pkl")
    members["model/DATA.PKL"] = pickle.dumps(BOMBS["bytearray"], protocol=2)  # torch takes it for model/data.pkl
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


ZIPS_REFUSED = {
    deflated: "compressed",
    larger_inside: "any size|damaged",
    outside: "outside",
    arrays_of_numpy: "not of PyTorch",
    archive_of_keras: r"\.keras archive",
    cut: "truncated",
    two_of_one_name: "two members of one name",
    two_of_one_name_but_for_case: "two members of one name",
    a_pickle_in_upper_case: "asks for '(builtins|__builtin__).bytearray'",
}


@pytest.mark.parametrize("change, match", ZIPS_REFUSED.items(), ids=[f.__name__ for f in ZIPS_REFUSED])
def test_archives_that_torch_does_not_write(tmp_path, pytorch, change, match):
    path = tmp_path / "model.pth"
    torch.save(pytorch.state_dict(), path)
    change(path)
    with pytest.raises(ValueError, match=rf"(?s)model\.pth.*({match}).*expected is"):
        read_weights(path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.pth"}


def other(state, **changes):
    return OrderedDict({**state, **changes})


STATES_REFUSED = {
    "a list": (lambda s: [1, 2], "a list instead of a dict"),
    "nothing": (lambda s: {}, "has no"),
    "a number for a weight": (lambda s: other(s, **{"lin.weight": 1.0}), r"has no \['lin.weight'\]"),
    "no axes": (lambda s: other(s, **{"lin.weight": torch.tensor(1.0)}), r"has no \['lin.weight'\]"),
    "another network": (lambda s: torch.nn.Linear(2, 3).state_dict(), r"entries are \['weight', 'bias'\]"),
    "11 leads": (lambda s: other(s, **{"conv1.weight": s["conv1.weight"][:, :11].clone()}), "11 leads instead of 12"),
    "too wide": (lambda s: other(s, **{"conv1.weight": torch.zeros(1).expand(999, 12, 17)}), "999 channels"),
    "kernel": (lambda s: other(s, **{"conv1.weight": s["conv1.weight"][..., :15].clone()}), "15 samples.*17"),
    "too many outputs": (lambda s: other(s, **{"lin.weight": torch.zeros(1).expand(5000, 160)}), "5000 outputs"),
    "2048 samples": (lambda s: other(s, **{"lin.weight": s["lin.weight"][:, :80].clone()}), r"\(1, 80\).*\(1, 160\)"),
    "one missing": (lambda s: {n: t for n, t in s.items() if n != "bn1.bias"}, r"lacks \['bn1.bias'\]"),
    "one more": (lambda s: other(s, extra=torch.zeros(3)), r"has \['extra'\]"),
    "integers": (lambda s: other(s, **{"lin.bias": torch.tensor([1])}), "lin.bias is no plain tensor of floats"),
    "complex": (lambda s: other(s, **{"lin.bias": torch.tensor([1j])}), "plain tensor"),
    "sparse": (lambda s: other(s, **{"lin.bias": torch.tensor([1.0]).to_sparse()}), "plain tensor|asks for"),
    "floats for counters": (lambda s: other(s, **{"bn1.num_batches_tracked": torch.tensor(0.5)}), "tensor of integers"),
    "infinite": (lambda s: other(s, **{"lin.bias": torch.tensor([np.inf])}), "infinite"),
    "variance": (lambda s: other(s, **{"bn1.running_var": -s["bn1.running_var"]}), "negative"),
}


@pytest.mark.parametrize("name", STATES_REFUSED)
def test_weights_of_something_else(tmp_path, pytorch, name):
    change, match = STATES_REFUSED[name]
    torch.save(change(pytorch.state_dict()), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"(?s)model\.pth gives no weights.*({match}).*expected is"):
        read_weights(tmp_path / "model.pth")


# --- both -------------------------------------------------------------------------------------------------------------


def test_the_other_variant_is_refused_with_both_names(tmp_path, h5, pytorch):
    torch.save(pytorch.state_dict(), tmp_path / "model.pth")
    for path, has, asked in ((h5, "keras", "pytorch"), (tmp_path / "model.pth", "pytorch", "keras")):
        for read in (read_weights, load_ribeiro):
            with pytest.raises(ValueError, match=rf"{path.name}.*the variant '{has}'.*variant='{asked}'"):
                read(path, variant=asked)
    with pytest.raises(ValueError, match="variant must be one of"):
        read_weights(h5, variant="tensorflow")


def test_kernels_of_the_other_variant_in_a_keras_file(tmp_path, seeded):
    with pytest.raises(ValueError, match="kernels have 17 samples; those of 'keras' 16"):
        read_weights(write_keras(tmp_path / "model.hdf5", trained("keras", kernel_size=17)))


@pytest.mark.parametrize("kind", ["hdf5", "zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated_files(tmp_path, seeded, kind, share):
    path = tmp_path / "model.file"
    if kind == "hdf5":
        write_keras(path, trained("keras"))
    else:
        torch.save(trained("pytorch").state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"model\.file gives no weights.*(truncated|empty).*expected is"):
        read_weights(path)


def test_a_changed_bit_shows_in_the_zip_of_torch(tmp_path, pytorch, rng):
    torch.save(pytorch.state_dict(), tmp_path / "model.pth")
    data, want = (tmp_path / "model.pth").read_bytes(), pytorch.state_dict()
    refused = 0
    for place in rng.integers(0, len(data), 40):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "model.pth").write_bytes(changed)
        try:
            state = read_weights(tmp_path / "model.pth")
        except ValueError as error:
            assert "model.pth" in str(error)
            refused += 1
        else:  # padding between members, or a field that nobody reads
            assert all(torch.equal(state[name], want[name]) for name in want)
    assert refused > 10


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"epoch,loss\n1,2\n", "neither"),
        (b"\x80", "truncated"),
        (b"PK\x03\x04 and no more", "truncated"),
        (b"\x89HDF\r\n\x1a\n and no more", "truncated"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, match):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)model\.pth.*{match}.*expected is"):
        read_weights(tmp_path / "model.pth")


def test_no_file_and_too_large_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("nothing.pth")):
        read_weights(tmp_path / "nothing.pth")
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(2**31)  # a hole: no disk is used
    with pytest.raises(ValueError, match="2147483648 bytes"):
        read_weights(tmp_path / "large.pth")
