"""ECGNet: the residual CNN with an LSTM beside it of Murugesan et al. 2018, used by Vijayarangan et al. 2020."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

STEM_KERNELS = (15, 17, 19, 21)
# Blocks 2 to 16: (channels at the output as a multiple of the stem's, whether the block halves the map).
_PLAN = (
    (1, False), (1, True),
    (2, False), (2, True), (2, False), (2, True),
    (3, False), (3, True), (3, False), (3, True),
    (4, False), (4, True), (4, False), (4, True),
    (5, False),
)  # fmt: skip


class SameConv1d(nn.Conv1d):
    """Convolution that keeps the length and leaves out the taps that never meet a sample.

    A map of L samples is met by at most 2 L - 1 taps of a centred kernel; the others multiply padding. In the last
    blocks (maps of 5 and 2 samples) that is most of a kernel of 15.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pad = self.kernel_size[0] // 2
        spare = pad - (x.shape[-1] - 1)
        if spare <= 0:
            return super().forward(x)
        return F.conv1d(x, self.weight[..., spare:-spare], self.bias, padding=pad - spare)


class FirstBlock(nn.Module):
    """Block 1: convolution, batch norm, ReLU, dropout, convolution, pooling; the shortcut is pooled as well."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        pad = kernel // 2
        self.body = nn.Sequential(
            SameConv1d(channels, channels, kernel, padding=pad),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            SameConv1d(channels, channels, kernel, padding=pad),
            nn.MaxPool1d(2),
        )
        self.shortcut = nn.MaxPool1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class PreActivationBlock(nn.Module):
    """Blocks 2 to 16: twice batch norm, ReLU, dropout, convolution; then pooling in every second block."""

    def __init__(self, c_in: int, c_out: int, kernel: int, pool: bool, dropout: float) -> None:
        super().__init__()
        pad = kernel // 2
        layers = [
            nn.BatchNorm1d(c_in),
            nn.ReLU(),
            nn.Dropout(dropout),
            SameConv1d(c_in, c_out, kernel, padding=pad),
            nn.BatchNorm1d(c_out),
            nn.ReLU(),
            nn.Dropout(dropout),
            SameConv1d(c_out, c_out, kernel, padding=pad),
        ]
        self.body = nn.Sequential(*layers, nn.MaxPool1d(2)) if pool else nn.Sequential(*layers)
        if c_in != c_out:  # never in a block that pools
            self.shortcut = nn.Conv1d(c_in, c_out, 1)
        else:
            self.shortcut = nn.MaxPool1d(2) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class CNNBranch(nn.Module):
    """Stem of four kernel sizes, sixteen residual blocks, a last batch norm without ReLU; flattened to two steps."""

    min_timesteps = 256  # eight poolings by two

    def __init__(self, n_leads: int, width: int, dropout: float, kernel: int = 15, out_length: int = 2) -> None:
        super().__init__()
        channels = 4 * width
        self.stem = nn.ModuleList([nn.Conv1d(n_leads, width, k, padding=k // 2) for k in STEM_KERNELS])
        self.stem_act = nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU())
        blocks: list[nn.Module] = [FirstBlock(channels, kernel, dropout)]
        c_in = channels
        for multiple, pool in _PLAN:
            blocks.append(PreActivationBlock(c_in, multiple * channels, kernel, pool, dropout))
            c_in = multiple * channels
        self.blocks = nn.ModuleList(blocks)  # blocks[i] is the authors' block i + 1
        self.norm = nn.BatchNorm1d(c_in)
        self.out_length = out_length
        self.n_features = c_in * out_length

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] < self.min_timesteps:
            x = F.pad(x, (0, self.min_timesteps - x.shape[-1]))
        x = self.stem_act(torch.cat([conv(x) for conv in self.stem], dim=1))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if x.shape[-1] != self.out_length:  # lengths outside 512 to 767; the authors' network at 720 never comes here
            x = F.adaptive_avg_pool1d(x, self.out_length)
        return x.flatten(1)


class LSTMBranch(nn.Module):
    """The window in steps of 60 samples (leads side by side in a step), two LSTM layers, the last output."""

    def __init__(self, n_leads: int, step: int, hidden: int, layers: int = 2) -> None:
        super().__init__()
        self.step = step
        self.lstm = nn.LSTM(step * n_leads, hidden, num_layers=layers, batch_first=True)
        self.n_features = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, -x.shape[-1] % self.step))
        n, leads, _ = x.shape
        steps = x.reshape(n, leads, -1, self.step).transpose(1, 2).flatten(2)
        return self.lstm(steps)[0][:, -1]


class ECGNet(nn.Module):
    """ECGNet, a residual CNN and an LSTM side by side, whose logits are the sum of one term from each.

    The network of Murugesan et al. [1]_, which Vijayarangan et al. [2]_ explain: exactly 17,438,384 parameters at
    one lead, 8 classes and full width. Nothing non-linear follows the concatenation of the two branches, so that
    every logit is a CNN term plus an LSTM term plus a bias (:meth:`branch_logits`).

    Input is ECG in mV, (n_samples, n_leads, n_timesteps); output is logits, (n_samples, n_outputs). Input shorter
    than 256 samples is padded with zeros at its right end inside the CNN, and to a multiple of ``step`` inside the
    LSTM; a network takes any length with the same weights, whatever it was built for.

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG; the paper has one.
    n_timesteps : int, default=720
        Length of the window in samples; the paper's 720 are 2 s at 360 Hz. Only checked: see above.
    n_outputs : int, default=8
        Number of classes or labels.
    width : int, default=16
        Channels of each of the four stem convolutions; the paper's 16. Parameters grow with its square.
    dropout : float, default=0.5
        Dropout inside the residual blocks; the authors' value.
    branch_dropout : float, default=0.0
        In training, the share of windows in which one branch (either, by equal chance) is silenced. Trained without
        it, the network leans on its CNN and ignores its LSTM; 0.3 makes both carry weight.
    kernel : int, default=15
        Kernel of the block convolutions, odd, in samples.
    step : int, default=60
        Samples in one step of the LSTM.
    hidden : int, default=40
        Units of each of the two LSTM layers.

    Attributes
    ----------
    branches : tuple of str
        ``("cnn", "lstm")``, the additive parts of the logits.
    cam_layer : str
        Name of the layer for Grad-CAM: block 8, a map of ``n_timesteps // 16`` steps (45 at 720, 48 at 768). The
        paper speaks of a map of 48; that it is this stage is inferred, not known.
    min_timesteps : int
        256, the length to which the CNN pads shorter input.

    Raises
    ------
    ValueError
        For sizes below 1, an even kernel, a dropout outside [0, 1).

    References
    ----------
    .. [1] B. Murugesan et al., "ECGNet: Deep network for arrhythmia classification", IEEE MeMeA, 2018.
    .. [2] S. Vijayarangan et al., "Interpreting deep neural networks for single-lead ECG arrhythmia classification",
       EMBC 2020, arXiv:2004.05399.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import ECGNet
    >>> net = ECGNet(n_outputs=5, width=1).eval()
    >>> net(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 5])
    """

    branches = ("cnn", "lstm")
    cam_layer = "cnn.blocks.7"
    foldable = True  # no forward method calls one half of a Conv1d, BatchNorm1d pair alone
    min_timesteps = CNNBranch.min_timesteps

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 720,
        n_outputs: int = 8,
        *,
        width: int = 16,
        dropout: float = 0.5,
        branch_dropout: float = 0.0,
        kernel: int = 15,
        step: int = 60,
        hidden: int = 40,
    ) -> None:
        super().__init__()
        sizes = {"n_leads": n_leads, "n_timesteps": n_timesteps, "n_outputs": n_outputs, "width": width}
        for name, value in {**sizes, "kernel": kernel, "step": step, "hidden": hidden}.items():
            if not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that a convolution keeps the length; got {kernel}")
        for name, value in {"dropout": dropout, "branch_dropout": branch_dropout}.items():
            if not isinstance(value, numbers.Real) or not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
        self.n_leads, self.n_timesteps, self.n_outputs = n_leads, n_timesteps, n_outputs
        self.branch_dropout = branch_dropout
        self.cnn = CNNBranch(n_leads, width, dropout, kernel)
        self.lstm = LSTMBranch(n_leads, step, hidden)
        self.fc1 = nn.Linear(self.cnn.n_features + self.lstm.n_features, 500)
        self.fc2 = nn.Linear(500, 100)
        self.fc3 = nn.Linear(100, n_outputs)

    def forward(
        self, x: torch.Tensor, *, inputs: Mapping[str, torch.Tensor | None] | None = None
    ) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.
        inputs : mapping from branch name to tensor or None, default=None
            Another input for a branch, or None to silence it (its features, and so its term of the logits, are
            zero). Branches that are not named see x.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a class.

        Raises
        ------
        ValueError
            For a branch that the network does not have.
        """
        if x.ndim != 3 or x.shape[1] != self.n_leads:
            raise ValueError(f"x must be (n_samples, {self.n_leads}, n_timesteps); got {tuple(x.shape)}")
        inputs = {} if inputs is None else inputs
        unknown = sorted(set(inputs) - set(self.branches))
        if unknown:
            raise ValueError(f"inputs names {unknown}; the branches of ECGNet are {list(self.branches)}")
        features = []
        for name in self.branches:
            branch = getattr(self, name)
            given = inputs.get(name, x)
            features.append(x.new_zeros(len(x), branch.n_features) if given is None else branch(given))
        if self.training and self.branch_dropout:
            features = self._drop_branch(features)
        return self.fc3(self.fc2(self.fc1(torch.cat(features, 1))))

    def _drop_branch(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Silence one branch in a share ``branch_dropout`` of the windows, never both."""
        draw = torch.rand(len(features[0]), 1, device=features[0].device)
        low, high = self.branch_dropout / 2, 1 - self.branch_dropout / 2
        return [features[0] * (draw >= low), features[1] * (draw < high)]

    def branch_logits(self, x: torch.Tensor, branch: str | None = None) -> dict[str, torch.Tensor]:
        """Return the terms whose sum is the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.
        branch : {"cnn", "lstm"} or None, default=None
            Compute this branch's term alone, which spares the other's forward pass.

        Returns
        -------
        terms : dict of str to tensor
            ``"cnn"`` and ``"lstm"`` of shape (n_samples, n_outputs), or the one asked for; ``"bias"`` of shape
            (n_outputs,).

        Raises
        ------
        ValueError
            For a branch that the network does not have.
        """
        if branch is not None and branch not in self.branches:
            raise ValueError(f"branch must be one of {list(self.branches)} or None, got {branch!r}")
        weights = self.branch_weights()
        names = self.branches if branch is None else (branch,)
        return {**{name: getattr(self, name)(x) @ weights[name].T for name in names}, "bias": weights["bias"]}

    def branch_weights(self) -> dict[str, torch.Tensor]:
        """Return the three linear layers as one, cut by branch.

        Returns
        -------
        weights : dict of str to tensor
            ``"cnn"`` and ``"lstm"`` of shape (n_outputs, features of the branch), ``"bias"`` of shape (n_outputs,).
            With ``net.lstm`` the module, ``net.lstm(x) @ weights["lstm"].T`` is its term of the logits.
        """
        weight = self.fc3.weight @ self.fc2.weight @ self.fc1.weight
        parts = weight.split([getattr(self, name).n_features for name in self.branches], 1)
        return {**dict(zip(self.branches, parts, strict=True)), "bias": self.fc3(self.fc2(self.fc1.bias))}
