"""Row S14: R peaks, limits of the waves and the P rule of twelve leads, beside NeuroKit2 lead by lead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skecg.beats import delineate, find_beats
from skecg.datasets import make_ecg

from .harness import Anchor, Different, Line, paired, row, speed

_FS, _MILLISECONDS = 500.0, 20.0
_GOALS = {"prominence": 4.0, "dwt": 25.0}


@row("S14", "Speed", "Beats and waves")
def beats(quick: bool) -> Iterator[Line]:
    n = 2 if quick else 10
    ecg = make_ecg(n, classes=("N", "AF"), n_leads=12, fs=_FS, window=10.0, random_state=0)
    work = f"R peaks, limits and P waves of {ecg.data.shape} at {_FS:g} Hz, seed 0"

    def ours() -> list:
        return delineate(ecg.data, find_beats(ecg.data, _FS))

    failed = [found.limits_reason for found in ours() if found.source != "average"]
    if failed:
        raise Different(f"{len(failed)} of {n} windows have no limits: {failed[0]}")
    times = 1e3 * paired(ours, rounds=3 if quick else 9)[:, 0] / n
    yield Line(
        work=work,
        measured=f"{np.median(times):.1f} ({times.min():.1f} to {times.max():.1f}) ms of CPU a window",
        goal=f"<= {_MILLISECONDS:g} ms",
        met=bool(np.median(times) <= _MILLISECONDS),
    )
    try:
        import neurokit2 as nk
    except ImportError as error:
        yield Line(work=work, measured=f"not measured: neurokit2, of the extra `waves`, cannot be imported: {error}")
        return

    def neurokit(method: str) -> list:
        rate, found = round(_FS), []
        for window in ecg.data:
            cleaned = [nk.ecg_clean(lead.astype(np.float64), sampling_rate=rate) for lead in window]
            peaks = nk.ecg_findpeaks(cleaned[1], sampling_rate=rate)["ECG_R_Peaks"]
            found.append([nk.ecg_delineate(lead, peaks, sampling_rate=rate, method=method)[1] for lead in cleaned])
        return found

    equal = "neurokit2 has no P rule; R peaks of lead II, limits of all twelve leads"
    anchors = [
        Anchor(f"nk neurokit and {name}, lead by lead", lambda name=name: neurokit(name), goal, equal)
        for name, goal in _GOALS.items()
    ]
    yield from speed(work, ours, anchors, quick=quick)
