"""R peaks by the detectors of NeuroKit2 and wfdb, each on one lead, behind one signature."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np

# What these packages raise on ECG that they cannot handle.
REFUSALS = (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError, ArithmeticError, AttributeError)
# Units of a converter per mV that gqrs is told; it works on integers.
_GAIN = 200.0


def import_neurokit() -> ModuleType:
    """Return neurokit2; ImportError with the pip line where it is not installed."""
    try:
        import neurokit2
    except ImportError as error:
        raise ImportError('this needs neurokit2: pip install "skecg[waves]"') from error
    return neurokit2


def _neurokit(lead: np.ndarray, fs: float) -> np.ndarray:
    neurokit2 = import_neurokit()
    rate = _whole(fs, "neurokit2")
    cleaned = neurokit2.ecg_clean(lead, sampling_rate=rate, method="neurokit")
    return neurokit2.ecg_findpeaks(cleaned, sampling_rate=rate, method="neurokit")["ECG_R_Peaks"]


def _xqrs(lead: np.ndarray, fs: float) -> np.ndarray:
    from wfdb.processing import xqrs_detect

    return xqrs_detect(lead, fs=fs, verbose=False)


def _gqrs(lead: np.ndarray, fs: float) -> np.ndarray:
    from wfdb.processing import gqrs_detect

    return gqrs_detect(d_sig=np.round(lead * _GAIN).astype(np.int64), fs=fs, adc_gain=_GAIN, adc_zero=0)


def _whole(fs: float, package: str) -> int:
    """Return a sampling rate as the integer that a package wants; ValueError where it is none."""
    if fs != round(fs):
        raise ValueError(f"{package} takes whole sampling rates, fs is {fs:g} Hz: resample before, or use 'energy'")
    return round(fs)


SINGLE_LEAD: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "neurokit": _neurokit,
    "xqrs": _xqrs,
    "gqrs": _gqrs,
}


def detect_single(name: str, lead: np.ndarray, fs: float) -> tuple[np.ndarray, str]:
    """Run a detector on one lead.

    Parameters
    ----------
    name : "neurokit", "xqrs" or "gqrs"
        Which.
    lead : ndarray of shape (n_timesteps,)
        mV, finite.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    peaks : ndarray of int64
        Strictly increasing positions.
    reason : str
        Why there are none where the detector refused; else empty.
    """
    if name == "neurokit":
        import_neurokit()  # a missing package is an error of the call, not of the window
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the packages' own of odd signals; what they give is checked below
            found = SINGLE_LEAD[name](lead.astype(np.float64), fs)
    except REFUSALS as error:
        return np.empty(0, dtype=np.int64), f"{name} refused: {type(error).__name__}: {error}"
    peaks = np.asarray(found, dtype=np.float64).ravel()
    peaks = np.unique(peaks[np.isfinite(peaks)].astype(np.int64))
    return peaks[(peaks >= 0) & (peaks < len(lead))], ""
