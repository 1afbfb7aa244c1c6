"""Occlusion: how far the score falls when a stretch of time, a lead or a wave is replaced."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from ..beats import Beats, delineate, find_beats
from ..classifiers import ECGClassifier
from ..utils._batching import in_parts
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up
from ._gradients import OUTPUTS, forward, medians, to_numpy, widest, without_repeat

_FILLS = ("bridge", "isoelectric")
_SLOWEST = 60.0  # Hz, below which find_beats refuses
_WAVES = ((0, 2), (3, 4), (5, 7))  # columns of Beats.limits: on and off of P, QRS, T
_AROUND_R = (0.08, 0.10)  # s before and after R: a wide QRS complex, where a beat has no limits of its own


@fill_doc
class Occlusion(BaseExplainer):
    """The fall of the score when a stretch of the ECG is replaced by something without evidence.

    Relevance is ``s(x) - s(x with the stretch replaced)`` with s the score [1]_ (``relevance_kind`` "signed"): above 0
    where the network counts the stretch in favour of the target, below 0 where against it. It needs no gradient and no
    layer, so it serves every network. It does not add up to the score: what is told twice in the ECG, as by the beats
    of a rhythm, may fall nowhere. Replaced stretches are no ECG that the network was trained on; ``fill`` is what makes
    the difference.

    Parameters
    ----------
    %(estimator)s
    by : {"time", "lead", "wave"}, default="time"
        What is replaced: a window that slides over time, each sample with the mean fall of all positions that cover it;
        one lead after the other, each sample of a lead with its fall; or one wave of one beat after the other, P waves,
        QRS complexes, T waves and what lies between two of them, each sample with the fall of its stretch.
    window : float, default=0.4
        Length of the sliding window, s, with ``by="time"``.
    stride : float, default=None
        Distance of its positions, s, rounded to samples and at most ``window``; None takes ``window / 8``. Positions
        begin before the ECG's first sample and end after its last, where the part inside is replaced, so that the
        samples near the ends are covered as often as others.
    fill : {"bridge", "isoelectric"}, float or array-like, default="bridge"
        What is put in, in each lead: "bridge", the straight line between the samples before and after the stretch, so
        that no step appears (at an end of the ECG the level of the one neighbour, of a whole lead its median);
        "isoelectric", the median of that lead, since most samples of ECG lie near the isoelectric line; or the same
        stretch of another window, an array (n_leads, n_timesteps) or, for all leads, (n_timesteps,), or one number, in
        the unit and the space of the network's input (after a Pipeline's steps).
    leads : {"together", "each"}, default="together"
        Whether a stretch of time, or a wave, is replaced in all leads at once or in one lead at a time, for a relevance
        by lead at ``n_leads`` times the cost.
    %(output)s
    %(target)s
    batch_size : int, default=64
        Windows in a batch, and windows with a stretch replaced in one pass; halved when memory does not suffice.
    %(explain_fs)s
        ``by="time"`` and ``by="wave"`` need it.
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    MaskDeletion : A mask that is learned: which samples together make the score fall.
    IntegratedGradients : Relevance that adds up to the score.
    skecg.beats.delineate : The limits of the waves.

    Notes
    -----
    The target of a window is the label that the window itself is predicted as, whatever is replaced.

    ``by="lead"`` and ``by="wave"`` give each sample the fall of its whole stretch, so a sum over samples counts a fall
    as often as the stretch has samples: take means, or one sample of each stretch.

    ``by="wave"`` finds beats and waves in the network's input, of at least 60 Hz, in whatever unit it is: the detectors
    of :mod:`skecg.beats` do not depend on scale or offset. With ``leads="together"`` a wave has in each lead the limits
    of that lead. A beat that is not like the median beat, such as a premature one, and any beat where no limits are
    found, has a QRS complex from 80 ms before R to 100 ms after it, and its other waves are part of what lies between.
    ``explain`` adds ``n_beats`` and ``n_delineated`` (beats with limits of their own), each (n_samples,). In windows
    without beats the relevance is zero, ``reason`` (n_samples,) says why, and a warning names them. A lead that is
    constant has no waves.

    The cost is a forward pass for each stretch: about 8 T / ``window`` for T s of ECG with ``by="time"``, about six for
    each beat with ``by="wave"``.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014,
       arXiv:1311.2901.

    Examples
    --------
    >>> from skecg import ECGClassifier, Occlusion
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> Occlusion(clf).transform(ecg.data[:3]).shape
    (3, 1, 720)
    >>> Occlusion(clf, by="wave").explain(ecg.data[:3]).n_beats.shape
    (3,)
    """

    relevance_kind = "signed"

    def __init__(
        self,
        estimator: Any,
        *,
        by: str = "time",
        window: float = 0.4,
        stride: float | None = None,
        fill: Any = "bridge",
        leads: str = "together",
        output: str = "logit",
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.by = by
        self.window = window
        self.stride = stride
        self.fill = fill
        self.leads = leads
        self.output = output
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("by", self.by, ("time", "lead", "wave"))
        check_option("leads", self.leads, ("together", "each"))
        check_option("output", self.output, OUTPUTS)
        check_number("window", self.window, low=0, strict=True, unit="(s)")
        if self.stride is not None:
            check_number("stride", self.stride, low=0, strict=True, unit="(s)")
            if self.stride > self.window:
                raise ValueError(
                    f"stride must be at most window ({self.window:g} s), or samples between two positions would never "
                    f"be replaced; got {self.stride:g} s"
                )
        if self.fill is None or isinstance(self.fill, str):
            if self.fill not in _FILLS:
                raise ValueError(f"fill must be 'bridge', 'isoelectric', a number or an array; got {self.fill!r}")

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        width = stride = fs = None
        if self.by == "time":
            width, stride = self._samples(classifier)
        elif self.by == "wave":
            fs = self._sampling_rate(classifier, "the classifier has no fs, and by='wave'")
            if fs < _SLOWEST:
                raise ValueError(
                    f"by='wave' looks for beats, which needs fs of at least {_SLOWEST:g} Hz; got {fs:g} Hz. Take "
                    "by='time' or by='lead'"
                )
        fill = self._fill(classifier)
        speed_up(net, classifier.device_)
        return {"width": width, "stride": stride, "rate": fs, "fill": fill}

    def _samples(self, classifier: ECGClassifier) -> tuple[int, int]:
        """Return window and stride in samples."""
        fs = self._sampling_rate(classifier, "the classifier has no fs, and the window")
        width, length = round(self.window * fs), classifier.n_timesteps_
        if width < 1:
            raise ValueError(f"window of {self.window:g} s is less than one sample at {fs:g} Hz: take a longer one")
        if width > length:
            raise ValueError(
                f"window of {self.window:g} s is {width} samples at {fs:g} Hz, and the ECG to be explained is shorter: "
                f"{length} samples, {length / fs:.3g} s. Take a window of at most that, or by='lead'"
            )
        stride = width // 8 if self.stride is None else min(round(self.stride * fs), width)
        return width, max(1, stride)

    def _fill(self, classifier: ECGClassifier) -> str | torch.Tensor:
        """Return the parameter ``fill``: a name, or what is put in, (n_leads or 1, n_timesteps or 1)."""
        if isinstance(self.fill, str):
            return self.fill
        try:
            given = np.array(self.fill, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"fill must be 'bridge', 'isoelectric', a number or an array; got {error}") from error
        if not np.isfinite(given).all():
            raise ValueError("fill has values that are NaN or infinite: the network needs a number for every sample")
        leads, length = classifier.n_leads_, classifier.n_timesteps_
        if given.shape not in ((), (length,), (leads, length)):
            raise ValueError(
                f"fill has the shape {given.shape}; it must be a number, {(length,)} for all leads or "
                f"{(leads, length)}, as the network's input has {leads} leads of {length} timesteps"
            )
        return torch.from_numpy(given.reshape(-1, given.shape[-1] if given.ndim else 1)).to(classifier.device_)

    def _explain_batch(
        self,
        net: torch.nn.Module,
        x: torch.Tensor,
        given: torch.Tensor,
        score: TargetScore,
        *,
        width: int | None,
        stride: int | None,
        rate: float | None,
        fill: str | torch.Tensor,
    ) -> dict[str, np.ndarray]:
        x, given = without_repeat(x, given)
        logits = forward(net, x)
        index = score.choose(logits, given)
        more = {}
        if self.by == "time":
            relevance = occlude_time(net, score, x, index, width, stride, self.batch_size, fill, leads=self.leads)
        elif self.by == "lead":
            relevance = _occlude_leads(net, score, x, index, self.batch_size, fill)
        else:
            found = _find_waves(x.cpu().numpy(), rate, self.leads)
            relevance = _occlude_waves(net, score, x, index, self.batch_size, fill, found)
            more = {
                "n_beats": np.array([part.n_beats for part in found]),
                "n_delineated": np.array([part.n_delineated for part in found]),
                "reason": np.array([part.reason for part in found], dtype=object),
            }
        out = {"relevance": relevance, "score": score(logits, index), "logits": logits, "index": index}
        return to_numpy({**out, "passed": score.passes(logits, index)}) | more

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        if self.by != "wave":
            return []
        rows = np.flatnonzero(result.n_beats == 0)
        reasons = list(dict.fromkeys(result.reason[rows]))
        told = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        return [(rows, f"no beats were found, so no wave was replaced ({told})")]


def occlude_time(
    net: torch.nn.Module,
    score: TargetScore,
    x: torch.Tensor,
    index: torch.Tensor,
    width: int,
    stride: int,
    batch_size: int,
    fill: str | torch.Tensor = "bridge",
    *,
    leads: str = "together",
) -> torch.Tensor:
    """Return the mean fall of the score over all positions of a sliding window that cover a sample.

    Positions begin at every ``stride``-th sample from ``stride - width`` on, so that the first and the last samples are
    covered as often as others.

    Parameters
    ----------
    net, score : torch.nn.Module, TargetScore
        A private twin, and what is explained of it.
    x : torch.Tensor of shape (n, n_leads, n_timesteps)
        Left as it is.
    index : torch.Tensor of shape (n,)
        Position of each window's target.
    width, stride : int
        Of the sliding window, samples; ``1 <= stride <= width``.
    batch_size : int
        Rows in a pass; halved when memory does not suffice.
    fill : {"bridge", "isoelectric"} or torch.Tensor, default="bridge"
        What is put in; a tensor (n_leads or 1, n_timesteps or 1) for every window.
    leads : {"together", "each"}, default="together"
        Whether all leads are replaced at once.

    Returns
    -------
    falls : torch.Tensor of shape (n, 1, n_timesteps), or (n, n_leads, n_timesteps) for "each", float32
        By sample.
    """
    n, n_leads, length = x.shape
    first = torch.arange(stride - width, length, stride, device=x.device)
    spans = torch.stack([first.clamp(min=0), (first + width).clamp(max=length)], -1)
    if leads == "each":
        own = torch.eye(n_leads, dtype=torch.long, device=x.device)
        table = (spans[:, None, None] * own[..., None]).flatten(0, 1)
    else:
        table = spans[:, None].expand(-1, n_leads, -1)
    falls = _falls(net, score, x, index, *_all_pairs(x, table), table, fill, batch_size)
    falls = falls.view(n, len(first), -1).transpose(1, 2)
    # Sums of a few falls, not differences of running sums: where all falls are 0 the mean is 0, not a rounding error.
    t = torch.arange(length, device=x.device)
    earliest, latest = t // stride, (t + width) // stride - 1
    total = falls.new_zeros(n, falls.shape[1], length)
    for k in range(-(-width // stride)):
        covers = earliest + k <= latest
        total += torch.where(covers, falls[..., (earliest + k).clamp(max=len(first) - 1)], 0)
    return (total / (latest - earliest + 1)).float()


def _occlude_leads(
    net: torch.nn.Module,
    score: TargetScore,
    x: torch.Tensor,
    index: torch.Tensor,
    batch_size: int,
    fill: str | torch.Tensor,
) -> torch.Tensor:
    """Return the fall of the score without each lead, at each of its samples."""
    n, n_leads, length = x.shape
    high = length * torch.eye(n_leads, dtype=torch.long, device=x.device)
    table = torch.stack([torch.zeros_like(high), high], -1)
    falls = _falls(net, score, x, index, *_all_pairs(x, table), table, fill, batch_size)
    return falls.float().view(n, n_leads, 1).expand_as(x)


def _occlude_waves(
    net: torch.nn.Module,
    score: TargetScore,
    x: torch.Tensor,
    index: torch.Tensor,
    batch_size: int,
    fill: str | torch.Tensor,
    found: list[_Waves],
) -> torch.Tensor:
    """Return the fall of the score without each wave, at each of its samples; zero where there are no waves."""
    sizes = np.array([len(part.table) for part in found])
    if not sizes.any():
        return torch.zeros_like(x)
    table = torch.from_numpy(np.concatenate([part.table for part in found])).to(x.device)
    window = torch.from_numpy(np.repeat(np.arange(len(x)), sizes)).to(x.device)
    stretch = torch.arange(len(table), device=x.device)
    falls = _falls(net, score, x, index, window, stretch, table, fill, batch_size)
    falls = torch.cat([falls.float(), x.new_zeros(1)])
    before = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    number = np.stack([part.number for part in found])
    number = np.where(number < 0, len(table), number + before[:, None, None])
    return falls[torch.from_numpy(number).to(x.device)]


def _all_pairs(x: torch.Tensor, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (window, stretch) of every stretch in every window."""
    window, stretch = torch.arange(len(x), device=x.device), torch.arange(len(table), device=x.device)
    return window.repeat_interleave(len(table)), stretch.repeat(len(x))


def _falls(
    net: torch.nn.Module,
    score: TargetScore,
    x: torch.Tensor,
    index: torch.Tensor,
    window: torch.Tensor,
    stretch: torch.Tensor,
    table: torch.Tensor,
    fill: str | torch.Tensor,
    batch_size: int,
) -> torch.Tensor:
    """Return the fall of the score for each (window, stretch), in passes of at most ``batch_size`` rows.

    ``table`` (n_stretches, n_leads, 2) has the first sample of a stretch and the sample after its last, by lead. The
    windows as they are run in the same passes, which are all of one size: kernels round differently by the shape of a
    batch, and a stretch that the network does not look at shall have no fall, not a rounding error.
    """
    n, m = len(x), len(window)
    n_passes = -(-(n + m) // batch_size)
    size = -(-(n + m) // n_passes)
    spare = size * n_passes - n - m
    window = torch.cat([torch.arange(n, device=x.device), window, window[-1:].expand(spare)])
    stretch = torch.cat([stretch.new_full((n,), len(table)), stretch, stretch[-1:].expand(spare)])
    table = torch.cat([table, torch.zeros_like(table[:1])])  # nothing is replaced
    level = None if isinstance(fill, torch.Tensor) else medians(x)
    found = torch.empty(len(window), dtype=widest(x), device=x.device)

    def run(now: slice) -> torch.Tensor:
        rows = window[now]
        copies = _replaced(x[rows], *table[stretch[now]].unbind(-1), fill, None if level is None else level[rows])
        return score(forward(net, copies), index[rows])

    for now, scores in in_parts(len(window), size, run):
        found[now] = scores.to(found.dtype)
    return (found[:n][window] - found)[n : n + m]


def _replaced(
    x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, fill: str | torch.Tensor, level: torch.Tensor | None
) -> torch.Tensor:
    """Return x (n, n_leads, n_timesteps) with the samples from low to high (n, n_leads), high excluded, replaced."""
    length = x.shape[-1]
    t = torch.arange(length, device=x.device)
    low, high = low[..., None], high[..., None]
    inside = (t >= low) & (t < high)
    if isinstance(fill, torch.Tensor):
        return torch.where(inside, fill, x)
    if fill == "isoelectric":
        return torch.where(inside, level, x)
    left, right = x.gather(-1, (low - 1).clamp(min=0)), x.gather(-1, high.clamp(max=length - 1))
    at_start, at_end = low == 0, high == length
    left, right = (
        torch.where(at_start, torch.where(at_end, level, right), left),
        torch.where(at_end, torch.where(at_start, level, left), right),
    )
    share = (t - low + 1).to(x.dtype) / (high - low + 1)
    return torch.where(inside, torch.addcmul(left, share, right - left), x)


@dataclass(frozen=True)
class _Waves:
    """The waves of one window, and what lies between them, as stretches to replace."""

    table: np.ndarray  # (n_stretches, n_leads, 2): first sample, sample after the last; equal where nothing is replaced
    number: np.ndarray  # (n_leads, n_timesteps): which stretch a sample belongs to, -1 where to none
    n_beats: int
    n_delineated: int
    reason: str


def _find_waves(x: np.ndarray, fs: float, leads: str) -> list[_Waves]:
    """Return the waves of each window (n, n_leads, n_timesteps)."""
    beats = delineate(x, find_beats(x, fs), min_beats=1)
    return [_waves(window, found, leads) for window, found in zip(x, beats, strict=True)]


def _waves(x: np.ndarray, beats: Beats, leads: str) -> _Waves:
    limits = beats.limits[..., _WAVES].astype(float)  # (n_beats, n_leads, waves, 2)
    known = np.isfinite(limits).any((1, 2, 3))
    moves = np.ptp(x, axis=-1) > 0
    before, after = (round(part * beats.fs) for part in _AROUND_R)
    for beat in np.flatnonzero(~known):
        limits[beat, moves, 1] = beats.r_peaks[beat] - before, beats.r_peaks[beat] + after
    owner = np.full(x.shape, -1)
    for wave in (2, 0, 1):  # where waves overlap, the QRS complex stays whole
        for beat, lead in np.argwhere(np.isfinite(limits[:, :, wave, 0])):
            on, off = limits[beat, lead, wave]
            owner[lead, max(0, int(on)) : int(off) + 1] = 3 * beat + wave
    stretches: dict[tuple, list[tuple[int, int, int]]] = {}  # what is replaced at once: (lead, first, after the last)
    for lead in np.flatnonzero((owner >= 0).any(1)):
        cuts = [0, *(np.flatnonzero(np.diff(owner[lead])) + 1).tolist(), x.shape[-1]]
        last, seen = -1, Counter()
        for low, high in pairwise(cuts):
            now = int(owner[lead, low])
            last = now if now >= 0 else last
            place = (last, now < 0)  # in all leads the same: a wave, or what lies behind it
            key = (*place, seen[place], lead if leads == "each" else None)
            seen[place] += 1
            stretches.setdefault(key, []).append((lead, low, high))
    table, number = np.zeros((len(stretches), len(x), 2), dtype=np.int64), np.full(x.shape, -1)
    for i, parts in enumerate(stretches.values()):
        for lead, low, high in parts:
            table[i, lead], number[lead, low:high] = (low, high), i
    return _Waves(table, number, len(known), int(known.sum()), beats.reason)
