"""ECGLSTM: the stand-alone LSTM classifier of ECGNet's authors."""

from __future__ import annotations

import torch
from torch import nn

from ._ecgnet import LSTMBranch
from ._layers import check_input, check_shares, check_sizes


class ECGLSTM(nn.Module):
    """ECGLSTM, the window in ten steps of 72 samples through two LSTM layers, and one dense layer on the last output.

    The recurrent classifier that the authors of ECGNet [1]_ trained beside it, of 31,688 parameters at one lead and 8
    classes. Input is ECG in mV, (n_samples, n_leads, n_timesteps) of any length, padded with zeros at its right end to
    a multiple of ``step``; output is logits, (n_samples, n_outputs).

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG; the authors have one. The leads of a step stand side by side.
    n_timesteps : int, default=720
        Length of the window in samples. Only checked: the same weights take any length.
    n_outputs : int, default=8
        Number of classes or labels.
    width : int, default=40
        Units of each LSTM layer; the authors' 40.
    dropout : float, default=0.0
        Dropout between the two LSTM layers; the authors have none.
    step : int, default=72
        Samples in one step.

    Attributes
    ----------
    cam_layer : None
        A recurrent network gives no map for Grad-CAM: MaskDeletion and the gradient methods explain it.

    Raises
    ------
    ValueError
        For sizes below 1, a dropout outside [0, 1).

    See Also
    --------
    ECGNet : The network with a CNN and an LSTM side by side.
    MURUGESAN_2018_LSTM : The authors' training settings.

    References
    ----------
    .. [1] B. Murugesan et al., "ECGNet: Deep network for arrhythmia classification", IEEE MeMeA, 2018.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import ECGLSTM
    >>> net = ECGLSTM(n_outputs=5).eval()
    >>> net(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 5])
    """

    cam_layer = None

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 720,
        n_outputs: int = 8,
        *,
        width: int = 40,
        dropout: float = 0.0,
        step: int = 72,
    ) -> None:
        super().__init__()
        check_sizes(n_leads=n_leads, n_timesteps=n_timesteps, n_outputs=n_outputs, width=width, step=step)
        check_shares(dropout=dropout)
        self.n_leads, self.n_timesteps, self.n_outputs = n_leads, n_timesteps, n_outputs
        self.steps = LSTMBranch(n_leads, step, width)
        self.steps.lstm.dropout = float(dropout)
        self.dense = nn.Linear(width, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a class.

        Raises
        ------
        ValueError
            For x of another shape.
        """
        check_input(x, self.n_leads)
        return self.dense(self.steps(x))
