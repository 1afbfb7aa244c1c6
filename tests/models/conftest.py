"""What the tests of published weights share."""

import pytest
import torch

from tests.published_files import trained, write_keras


@pytest.fixture
def keras(seeded):
    return trained("keras")


@pytest.fixture
def pytorch(seeded):
    return trained("pytorch", 1)


@pytest.fixture
def x(seeded):
    return torch.randn(2, 12, 4096)


@pytest.fixture
def h5(tmp_path, keras):
    return write_keras(tmp_path / "model.hdf5", keras)
