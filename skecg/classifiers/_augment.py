"""Augmentations for `ECGClassifier(augment=...)`: shifts, dropout bursts, stretching, and chains of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..utils._validation import check_fs, check_number, check_option


class RandomShift:
    """Move each window in time by a random number of samples, the same for all leads.

    A network trained on windows that are centred on a beat loses much where the beat lies elsewhere, and a map of it
    cannot be told from "the centre". Where the recording goes on beyond the window, cut it shifted instead
    (``fetch_mitdb(shift=...)``): nothing then has to be filled.

    Parameters
    ----------
    max_shift : float
        Shifts are uniform between ``-max_shift`` and ``max_shift``, s.
    fs : float
        Sampling rate, Hz.
    fill : {"edge", "zero", "wrap"}, default="edge"
        What stands in the samples that become free: the outermost value of the lead, 0, or what was pushed out at the
        other end.

    Raises
    ------
    ValueError
        For a negative shift, a sampling rate that is none, or a fill that is not known.

    Examples
    --------
    >>> import torch
    >>> from skecg.classifiers import RandomShift
    >>> shift = RandomShift(0.02, fs=100)
    >>> shift(torch.arange(6.0).reshape(1, 1, 6), torch.Generator().manual_seed(3)).shape
    torch.Size([1, 1, 6])
    """

    def __init__(self, max_shift: float, *, fs: float, fill: str = "edge") -> None:
        self.max_shift = check_number("max_shift", max_shift, low=0, unit="(s)")
        self.fs = check_fs(fs, "RandomShift")
        self.fill = check_option("fill", fill, ("edge", "zero", "wrap"))

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the batch, moved.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            A training batch.
        generator : torch.Generator
            Source of the shifts.

        Returns
        -------
        x : tensor
            Of the same shape.
        """
        n, _, length = x.shape
        most = round(self.max_shift * self.fs)
        shift = torch.randint(-most, most + 1, (n, 1), generator=generator)
        source = torch.arange(length) - shift
        inside = (source >= 0) & (source < length)
        source = source % length if self.fill == "wrap" else source.clamp(0, length - 1)
        moved = x.gather(2, source[:, None].expand_as(x).to(x.device))
        return torch.where(inside[:, None].to(x.device), moved, 0.0) if self.fill == "zero" else moved

    def __repr__(self) -> str:
        return f"RandomShift({self.max_shift!r}, fs={self.fs!r}, fill={self.fill!r})"


class DropoutBursts:
    """Set bursts of samples to zero, as Zihlmann et al. 2017 do.

    A standard normal number is drawn for each sample; where it exceeds ``threshold``, that sample and the ``length``
    after it become 0 in all leads. The share of samples lost is ``1 - (1 - p) ** (length + 1)`` with p the normal
    tail beyond the threshold: 22.4 % by default, in bursts of 11 samples (37 ms at their 300 Hz).

    Parameters
    ----------
    threshold : float, default=2.0
        Larger means fewer bursts.
    length : int, default=10
        Samples lost after the first.

    Raises
    ------
    ValueError
        For a length below 0 or a threshold that is not finite.

    References
    ----------
    .. [1] M. Zihlmann, D. Perekrestenko, M. Tschannen, "Convolutional recurrent neural networks for
       electrocardiogram classification", CinC 2017, arXiv:1710.06122. Settings as in the authors' code.

    Examples
    --------
    >>> import torch
    >>> from skecg.classifiers import DropoutBursts
    >>> x = DropoutBursts()(torch.ones(1, 1, 1000), torch.Generator().manual_seed(0))
    >>> bool(0.1 < (x == 0).float().mean() < 0.4)
    True
    """

    def __init__(self, threshold: float = 2.0, length: int = 10) -> None:
        self.threshold = check_number("threshold", threshold)
        self.length = check_number("length", length, low=0, integer=True)

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the batch with its bursts.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            A training batch.
        generator : torch.Generator
            Source of the bursts.

        Returns
        -------
        x : tensor
            Of the same shape.
        """
        n, _, length = x.shape
        hit = (torch.randn(n, 1, length, generator=generator) > self.threshold).float()
        # a sample is lost when any of itself and the `length` samples before it is hit
        padded = torch.nn.functional.pad(hit, (self.length, 0))
        lost = torch.nn.functional.max_pool1d(padded, self.length + 1, stride=1) > 0
        return x.masked_fill(lost.to(x.device), 0.0)

    def __repr__(self) -> str:
        return f"DropoutBursts(threshold={self.threshold!r}, length={self.length!r})"


class RandomStretch:
    """Stretch or squeeze each window in time by linear interpolation, and cut or fill it to its length.

    It moves the heart rate by the same factor and so **changes the label** where the rate is the label (bradycardia,
    tachycardia): leave it out there. Zihlmann et al. 2017 stretch by 0.667 to 1.333 from the left end; for a window
    centred on a beat, ``anchor="centre"`` keeps the beat where it is.

    Parameters
    ----------
    low, high : float, default=0.667, 1.333
        Bounds of the factor, uniform between them; above 1 the ECG becomes slower.
    anchor : {"centre", "start"}, default="centre"
        Which point of the window stays.

    Raises
    ------
    ValueError
        For bounds that are not 0 < low <= high.

    Examples
    --------
    >>> import torch
    >>> from skecg.classifiers import RandomStretch
    >>> RandomStretch()(torch.zeros(2, 1, 720), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 720])
    """

    def __init__(self, low: float = 0.667, high: float = 1.333, *, anchor: str = "centre") -> None:
        self.low = check_number("low", low, low=0, strict=True)
        self.high = check_number("high", high, low=low)
        self.anchor = check_option("anchor", anchor, ("centre", "start"))

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the batch, stretched; what lies beyond a squeezed window is 0.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            A training batch.
        generator : torch.Generator
            Source of the factors.

        Returns
        -------
        x : tensor
            Of the same shape.
        """
        n, _, length = x.shape
        factor = self.low + (self.high - self.low) * torch.rand(n, 1, generator=generator)
        fixed = (length - 1) / 2 if self.anchor == "centre" else 0.0
        at = (torch.arange(length) - fixed) / factor + fixed
        inside = ((at >= 0) & (at <= length - 1))[:, None].to(x.device)
        low = at.floor().clamp(0, max(length - 2, 0)).long()
        part = (at - low)[:, None].to(x.device, x.dtype)
        low = low[:, None].expand_as(x).to(x.device)
        high = (low + 1).clamp(max=length - 1)
        return torch.where(inside, torch.lerp(x.gather(2, low), x.gather(2, high), part), 0.0)

    def __repr__(self) -> str:
        return f"RandomStretch({self.low!r}, {self.high!r}, anchor={self.anchor!r})"


class AugmentChain:
    """Apply augmentations one after the other.

    Parameters
    ----------
    *steps : callable
        Each ``step(x, generator) -> x``, as ``ECGClassifier(augment=...)`` takes them.

    Raises
    ------
    ValueError
        For no step, or one that cannot be called.

    Examples
    --------
    >>> from skecg.classifiers import AugmentChain, DropoutBursts, RandomShift
    >>> AugmentChain(RandomShift(0.5, fs=360), DropoutBursts())
    AugmentChain(RandomShift(0.5, fs=360.0, fill='edge'), DropoutBursts(threshold=2.0, length=10))
    """

    def __init__(self, *steps: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> None:
        if not steps or not all(map(callable, steps)):
            raise ValueError(f"AugmentChain takes callables (x, generator) -> x; got {steps!r}")
        self.steps = steps

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the batch after every step.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            A training batch.
        generator : torch.Generator
            Source of all that is drawn.

        Returns
        -------
        x : tensor
            Of the same shape.
        """
        for step in self.steps:
            x = step(x, generator)
        return x

    def __repr__(self) -> str:
        return f"AugmentChain({', '.join(map(repr, self.steps))})"
