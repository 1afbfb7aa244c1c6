"""fetch_ltafdb and fetch_ltdb: day-long recordings as windows with labels and patients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.utils import Bunch

from ._databases import LTAFDB, LTDB
from ._fetch import fetch_windows
from ._fetcher_docs import fill_fetcher


@fill_fetcher
def fetch_ltafdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = ("N", "PVC", "PAC"),
    rhythm: str = "episodes",
    shift: float = 0.0,
    edge: str = "signal",
    pure: bool = False,
    max_per_class: int | None = None,
    records: Sequence[str] | str | None = None,
    signal: bool = True,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load windows around the beats, or inside the rhythms, of the Long Term AF Database.

    84 recordings, most of them a day long, of people with paroxysmal or sustained atrial fibrillation, at 128 Hz, two
    leads [1]_: 9 million beats. The signals are about 1.5 GB; what is missing is downloaded from PhysioNet [2]_ and
    verified.

    Parameters
    ----------
    %(where)s
    lead : int, default=0
        The lead, 0 or 1. Both are called "ECG", so a name does not tell them apart.
    classes : str, sequence of str or mapping, default=("N", "PVC", "PAC")
        Labels of beats (N, PVC, PAC) and of rhythms (NSR, AFIB, SVTA, SBR, VT, BIGEMINY, TRIGEMINY, AB, IVR), which
        may be mixed. Or ``"aami"`` for the groups N, SVEB, VEB and Q of ANSI/AAMI EC57 (F does not occur). Or a
        mapping of labels of your own to annotation symbols, or to notes of rhythm marks.
    %(rhythm)s
    %(cut)s
    records : sequence of str or "local", default=None
        Names of the records; "local" means those that are in the data home already, None all 84.
    %(read)s

    Returns
    -------
    ltafdb : Bunch
        With the attributes:

        %(windows)s

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    %(errors)s

    See Also
    --------
    fetch_mitdb : The same for the MIT-BIH Arrhythmia Database, with more kinds of beats.
    concatenate_windows : Put the windows of several databases together.

    Notes
    -----
    All windows of the default classes take 9.2 GB: take ``max_per_class``, which draws them evenly over patients, or
    ``signal=False``.

    References
    ----------
    .. [1] Petrutiu S, Sahakian AV, Swiryn S. Abrupt changes in fibrillatory wave characteristics at the termination of
       paroxysmal atrial fibrillation in humans. Europace 9:466-470, 2007.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_ltafdb
    >>> settings = {"classes": ("AFIB", "NSR"), "max_per_class": 5000, "random_state": 0}
    >>> ltafdb = fetch_ltafdb(**settings)  # doctest: +SKIP
    >>> ltafdb.data.shape  # doctest: +SKIP
    (10000, 1, 256)
    """
    return fetch_windows(
        LTAFDB,
        data_home=data_home,
        download_if_missing=download_if_missing,
        window=window,
        lead=lead,
        classes=classes,
        rhythm=rhythm,
        shift=shift,
        edge=edge,
        pure=pure,
        max_per_class=max_per_class,
        records=records,
        signal=signal,
        random_state=random_state,
        return_X_y=return_X_y,
        on_error=on_error,
        verbose=verbose,
    )


@fill_fetcher
def fetch_ltdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = ("N", "PVC"),
    shift: float = 0.0,
    edge: str = "signal",
    pure: bool = False,
    max_per_class: int | None = None,
    records: Sequence[str] | str | None = None,
    signal: bool = True,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load windows around the beats of the MIT-BIH Long-Term ECG Database.

    Seven recordings of 14 to 24 hours at 128 Hz, two or three leads, 668,000 annotated beats. What is missing is
    downloaded from PhysioNet [1]_ and verified.

    Parameters
    ----------
    %(where)s
    lead : int or str, default=0
        The lead, by position or by name: ECG1, ECG2, and in 15814 ECG3.
    classes : str, sequence of str or mapping, default=("N", "PVC")
        Labels of beats: N, PVC, SVEB. Or ``"aami"`` for the groups N, SVEB, VEB and F of ANSI/AAMI EC57 (Q does not
        occur). Or a mapping of labels of your own to annotation symbols.
    %(cut)s
    records : sequence of str or "local", default=None
        Names of the records; "local" means those that are in the data home already, None all seven.
    %(read)s

    Returns
    -------
    ltdb : Bunch
        With the attributes:

        %(windows)s

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    %(errors)s

    See Also
    --------
    fetch_mitdb : The same for the MIT-BIH Arrhythmia Database, with more kinds of beats.
    concatenate_windows : Put the windows of several databases together.

    Notes
    -----
    The headers give no gain: 200 units per mV are assumed, with one warning, so amplitudes are a convention here.
    Rhythms are not annotated. Two thirds of the pure PVC windows are of one patient (14184): split by ``groups``.

    References
    ----------
    .. [1] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_ltdb
    >>> ltdb = fetch_ltdb(edge="annotations", pure=True, signal=False)  # doctest: +SKIP
    >>> len(ltdb.target)  # doctest: +SKIP
    522539
    """
    return fetch_windows(
        LTDB,
        data_home=data_home,
        download_if_missing=download_if_missing,
        window=window,
        lead=lead,
        classes=classes,
        rhythm="episodes",
        shift=shift,
        edge=edge,
        pure=pure,
        max_per_class=max_per_class,
        records=records,
        signal=signal,
        random_state=random_state,
        return_X_y=return_X_y,
        on_error=on_error,
        verbose=verbose,
    )
