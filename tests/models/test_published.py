"""Published weights, whichever way they are stored: the variants, truncated files, files of something else."""

import re

import pytest
import torch

from skecg.models import load_ribeiro, read_weights
from tests.published_files import trained, write_keras


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
