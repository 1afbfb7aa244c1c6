"""Keras files: those of the authors' layout give the same network, all others are refused."""

import struct
import sys

import h5py
import numpy as np
import pytest
import torch

from skecg.classifiers import ECGClassifier
from skecg.models import RIBEIRO_LABELS, RIBEIRO_THRESHOLDS, load_ribeiro, read_weights
from tests.published_files import logits, trained, weights_of, write_keras


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
