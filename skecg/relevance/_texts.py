"""Texts that the docstrings of the aggregator's methods share."""

from __future__ import annotations

TEXTS = {
    "R": """
R : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
    Relevance of windows; two dimensions mean one lead. Windows with NaN or infinities are left out, counted
    and warned about.
""",
    "y": """
y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
    Labels, or indicators: then each label has a cohort, the control's holds the windows with its label alone,
    and windows without a label are in none. None takes all windows for one cohort. In all parts or in none.
""",
    "ecg": """
ecg : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), default=None
    The ECG that was explained, mV, with the time steps of R. The samples before its first and after its last that
    is not zero on all leads are zero padding, and left out; None uses all samples. By wave and by beat, beats are
    found in it where ``beats`` is None (for an ECG that is filtered or scaled otherwise than in mV, find them
    yourself), and by beat it is averaged too: it must have the leads of R then.
""",
    "beats": """
beats : list of n_samples Beats, default=None
    By wave and by beat: what :func:`skecg.beats.find_beats` returns for these windows at ``fs``, and for "wave"
    :func:`skecg.beats.delineate`; limits from elsewhere (annotations) will do in the same form. None finds and
    delineates them in ``ecg``, on the average beat; in windows under 5 s on what beats there are (``min_beats=1``),
    which is less exact. By record and by lead it is not read.
""",
    "groups": """
groups : array-like of shape (n_samples,), default=None
    Patient of each window, str or int; in all parts or in none. None takes each record for a patient.
""",
    "record": """
record : array-like of shape (n_samples,), default=None
    Record of each window, str or int; all windows of a record belong in one call. None takes each window for
    a record, numbered as they come, so that the order of parts matters to the resampling.
""",
}
