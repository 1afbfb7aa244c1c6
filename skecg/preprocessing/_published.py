"""Preprocessing as published with a network, as pipelines of the library's own transformers."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.pipeline import Pipeline

from ..utils._leads import STANDARD_LEADS
from ..utils._validation import check_fs, check_number
from ._gain import Gain
from ._leads import LeadArranger
from ._pad import PadOrCrop
from ._resample import Resampler

RIBEIRO_FS, RIBEIRO_TIMESTEPS = 400.0, 4096


def ribeiro_preprocessing(
    fs: float, *, lead_names: Sequence[str] | None = STANDARD_LEADS, unit: str = "mV", scale: float = 1.0
) -> Pipeline:
    """Return the preprocessing of RibeiroNet: 400 Hz, mV, 4,096 samples with zeros on both sides.

    Its steps: ``leads`` (:class:`LeadArranger`: I, II, III, aVR, aVL, aVF, V1 to V6, missing limb leads derived, with a
    warning where amplitudes are not those of mV), ``resample`` (:class:`Resampler`), ``pad`` (:class:`PadOrCrop`:
    ``(4096 - n) // 2`` zeros on the left, the middle of what is longer) and ``gain`` (:class:`Gain`: times ``scale``).
    The baseline is not removed, as in the published data [1]_. Which samples are ECG says ``valid_`` of the step
    ``pad``: statistics of relevance should leave the others out.

    Parameters
    ----------
    fs : float
        Sampling rate of the recordings, Hz.
    lead_names : sequence of str or None, default=("I", "II", "III", "aVR", "aVL", "aVF", "V1", ..., "V6")
        Names of the leads of X, in their order; the default is the order that skecg's fetchers return. None leaves the
        step ``leads`` out, so that any number of leads in any order passes unlooked at.
    unit : {"mV", "V", "uV", "µV"}, default="mV"
        Unit of X. Only the step ``leads`` converts.
    scale : float, default=1.0
        What the ECG in mV is multiplied by. The authors say that mV are wanted; signals in their public data have been
        measured to be about twice as large as those of other databases, so 2.0 may be worth a try.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        Not fitted; it learns nothing but the sizes of X. Its result is (n_samples, 12, 4096), float32.

    Raises
    ------
    ValueError
        For a rate that is no positive number, a scale that is not above 0, or a unit other than mV without
        ``lead_names``; in ``fit`` for what the steps refuse, such as 11 leads.

    See Also
    --------
    skecg.models.RibeiroNet : The network.
    pad_or_crop : Recordings of unequal lengths in one array, to be resampled before.

    References
    ----------
    .. [1] A. H. Ribeiro et al., "Automatic diagnosis of the 12-lead ECG using a deep neural network", Nature
       Communications 11, 1760, 2020.

    Examples
    --------
    >>> from skecg.datasets import make_ecg
    >>> from skecg.preprocessing import ribeiro_preprocessing
    >>> ecg = make_ecg(2, classes=("N",), n_leads=12, fs=500.0, window=10.0, noise=0, random_state=0)
    >>> pipeline = ribeiro_preprocessing(ecg.fs)
    >>> pipeline.fit_transform(ecg.data).shape
    (2, 12, 4096)
    >>> pipeline["pad"].valid_
    (48, 4048)
    """
    steps = []
    if lead_names is not None:
        steps.append(("leads", LeadArranger(lead_names, unit=unit)))
    elif unit != "mV":
        raise ValueError(f"unit={unit!r} is converted by the step that arranges leads: pass lead_names")
    steps.append(("resample", Resampler(check_fs(fs, "ribeiro_preprocessing"), RIBEIRO_FS)))
    steps.append(("pad", PadOrCrop(RIBEIRO_TIMESTEPS)))
    steps.append(("gain", Gain(check_number("scale", scale, low=0, strict=True))))
    return Pipeline(steps)
