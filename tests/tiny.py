"""Made-up ECG and networks small enough to be trained in a test, importable by name in the workers of joblib."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

LABELS = ("N", "PVC", "PAC", "LBBB")
# height in mV and width in samples of the bump that makes the class
_BUMPS = ((1.0, 2.0), (-1.2, 6.0), (1.5, 12.0), (0.8, 4.0))

# settings under which an ECGClassifier of TinyNet learns toy_ecg in a second
FAST: dict[str, Any] = {"module__width": 4, "lr": 0.02, "max_epochs": 4, "batch_size": 32, "random_state": 0}


def toy_ecg(
    n: int = 120, n_leads: int = 1, n_timesteps: int = 120, n_classes: int = 3, n_groups: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y, groups, truth: windows whose class is the shape of one bump in the first lead.

    Every class and the patients are spread evenly; truth marks the bump.
    """
    rng = np.random.default_rng(seed)
    code = np.arange(n) % n_classes
    t = np.arange(n_timesteps)
    X = 0.1 * rng.standard_normal((n, n_leads, n_timesteps))
    truth = np.zeros(X.shape, dtype=bool)
    centre = rng.integers(n_timesteps // 4, n_timesteps - n_timesteps // 4, n)
    for i in range(n):
        height, width = _BUMPS[code[i]]
        X[i, 0] += height * np.exp(-0.5 * ((t - centre[i]) / width) ** 2)
        truth[i, 0, max(0, centre[i] - 12) : centre[i] + 13] = True
    groups = np.arange(n) // n_classes % n_groups  # every patient has every class
    return X.astype(np.float32), np.array(LABELS)[code], groups, truth


class TinyNet(nn.Module):
    """A small network of ECGNet's kind: any number of leads, any length from one sample on, returns logits."""

    cam_layer = "features"

    def __init__(
        self, n_leads: int, n_timesteps: int, n_outputs: int, width: int = 4, lstm: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(n_leads, width, 7, padding=3),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),  # ceil_mode: a length of one stays one
            nn.Conv1d(width, 2 * width, 5, padding=2),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(n_leads, lstm, batch_first=True) if lstm else None
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width + lstm, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.features(x).mean(-1)
        if self.lstm is not None:
            h = torch.cat([h, self.lstm(x.transpose(1, 2))[0][:, -1]], 1)
        return self.head(self.drop(h))


class BraindecodeNet(nn.Module):
    """A linear network under braindecode's names for the sizes; it flattens, so it has one length only."""

    def __init__(self, n_chans: int, n_times: int, n_outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(n_chans * n_times, n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class LinearNet(nn.Module):
    """Logits = sum over leads and timesteps of weight * x + bias; the answers can be worked out by hand.

    The layer "keep" hands x through, so that a map has every lead as a channel and every timestep as a place.
    """

    cam_layer = "keep"

    def __init__(self, weight: Any, bias: Any) -> None:  # weight (n_outputs, n_leads, n_timesteps), bias (n_outputs,)
        super().__init__()
        self.keep = nn.Identity()
        self.weight = nn.Parameter(torch.as_tensor(np.asarray(weight), dtype=torch.float32))
        self.bias = nn.Parameter(torch.as_tensor(np.asarray(bias), dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nlt,clt->nc", self.keep(x), self.weight) + self.bias


def snapshot(module: nn.Module) -> dict[str, Any]:
    """Everything about a network that a call may not change: compare two of them with `same_snapshot`."""
    state: dict[str, Any] = {f"state {k}": v.detach().clone() for k, v in module.state_dict().items()}
    for name, p in module.named_parameters():
        state[f"storage {name}"] = (id(p), p.data_ptr(), p.requires_grad, p.dtype, str(p.device))
        state[f"grad {name}"] = None if p.grad is None else (id(p.grad), p.grad.clone())
    for name, part in module.named_modules():
        state[f"training {name}"] = (id(part), part.training)
        state[f"attributes {name}"] = sorted(part.__dict__)
        for kind, value in part.__dict__.items():
            if kind.endswith("_hooks") and hasattr(value, "__len__"):
                state[f"{kind} {name}"] = list(value)
    return state


def same_snapshot(a: Any, b: Any) -> bool:
    """Say whether two snapshots agree to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.view(-1).isnan(), b.view(-1).isnan()) and torch.equal(
            torch.nan_to_num(a), torch.nan_to_num(b)
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_snapshot(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same_snapshot, a, b))
    return bool(a == b)
