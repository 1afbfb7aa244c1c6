"""The quickstart runs from end to end, on few windows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from skecg.datasets import make_ecg

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.py"


@pytest.mark.parametrize("split", ["patient", "beat"])
def test_quickstart(tmp_path, monkeypatch, capsys, split):
    import matplotlib.pyplot as plt

    spec = importlib.util.spec_from_file_location("quickstart", QUICKSTART)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    few = lambda n_samples, **params: make_ecg(120, **{**params, "n_patients": 12})  # noqa: E731 (a stand-in)
    monkeypatch.setattr(quickstart, "make_ecg", few)
    picture = tmp_path / "picture.png"
    arguments = ["--epochs", "3", "--width", "1", "--explain", "2", "--split", split, "--out", str(picture)]
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *arguments])
    try:
        quickstart.main()
    except SystemExit as stop:  # so little training may recognise nothing, and then must say what to do
        assert "--epochs" in str(stop)
    else:
        assert picture.stat().st_size > 10_000
    finally:
        plt.close("all")
    printed = capsys.readouterr().out
    assert "macro F1" in printed and "confusion matrix" in printed
    assert ("SHARES" in printed) == (split == "beat")
