"""PyTorch files: those of the authors' layout give the same network, all others are refused and run nothing."""

import codecs
import pathlib
import pickle
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from skecg.models import load_ribeiro, read_weights
from tests.published_files import (
    checkpoint,
    logits,
    rename_numpy,
    trained,
)


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
