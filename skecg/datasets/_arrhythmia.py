"""fetch_mitdb, fetch_vfdb and fetch_svdb: half-hour recordings as windows with labels and patients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_option
from ._databases import MITDB, SVDB, VFDB
from ._fetch import fetch_windows
from ._fetcher_docs import fill_fetcher
from ._splits import assign_halves, warn_of_shared


@fill_fetcher
def fetch_mitdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = ("N", "PVC", "PAC", "LBBB", "RBBB"),
    rhythm: str = "episodes",
    shift: float = 0.0,
    edge: str = "signal",
    pure: bool = False,
    max_per_class: int | None = None,
    records: Sequence[str] | str | None = None,
    split: str = "patients",
    signal: bool = True,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load windows around the beats, or inside the rhythms, of the MIT-BIH Arrhythmia Database.

    48 half-hour recordings of 47 people at 360 Hz, 110,000 annotated beats [1]_. What is missing is downloaded from
    PhysioNet [2]_ and verified. Windows are centred on the beat and lie within the recording; with the default
    parameters there are 74,965 N, 7,126 PVC, 2,545 PAC, 8,066 LBBB and 7,251 RBBB.

    Parameters
    ----------
    %(where)s
    lead : int or str, default=0
        The lead, by position or by name. The first lead is MLII in 45 records and V5 in 102, 104 and 114;
        ``lead="MLII"`` takes MLII wherever it lies, and 102 and 104 have none.
    classes : str, sequence of str or mapping, default=("N", "PVC", "PAC", "LBBB", "RBBB")
        Labels of beats (N, PVC, PAC, LBBB, RBBB) and of rhythms (NSR, AFIB, AFL, SVTA, SBR, VT, VFL, BIGEMINY,
        TRIGEMINY, AB, IVR, NODAL, 2dAVb, PREX, PACED), which may be mixed. Or ``"aami"`` for the five groups of
        ANSI/AAMI EC57: N, SVEB, VEB, F and Q. Or a mapping of labels of your own to annotation symbols, or to notes
        of rhythm marks, such as ``{"premature": "AaJSV", "AF": ["(AFIB", "(AFL"]}``.
    %(rhythm)s
    %(cut)s
    records : sequence of str or "local", default=None
        Names of the records; "local" means those that are in the data home already, None all 48. With
        ``classes="aami"`` both leave out 102, 104, 107 and 217, whose patients have a pacemaker, as that practice
        does; name them to have them.
    split : "patients" or "literal", default="patients"
        Which halves ``split`` tells. De Chazal et al. (2004) divided 44 records into DS1, to train on, and DS2, to
        test on [3]_, with 201 in DS1 and 202 in DS2: one man on both sides. ``"patients"`` moves 202 to DS1, which
        takes 55 SVEB and 19 VEB of 1,837 and 3,221 from the test half and adds nothing to it; ``"literal"`` is the
        division as published, and warns of the man.
    %(read)s

    Returns
    -------
    mitdb : Bunch
        With the attributes:

        %(windows)s
        split : ndarray of str, shape (n_samples,)
            "DS1" or "DS2" of de Chazal et al., empty for the paced records, which are in neither.

        ``groups`` holds the record's name, but "201" for both 201 and 202.

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    %(errors)s

    Warns
    -----
    UserWarning
        For a class that no record has, and, with ``split="literal"``, for the patient on both sides.

    See Also
    --------
    read_record : Read one record as a whole.
    segment_beats : Cut windows by other rules.
    segment_rhythm : Cut windows of rhythms by other rules.
    concatenate_windows : Put the windows of several databases together.
    check_split : Whether a split of your own keeps patients apart.

    Notes
    -----
    Classes go with patients here: all LBBB beats come from four people, all RBBB beats from six. A split that does not
    keep patients (``groups``) apart measures how well people are recognised. With scikit-learn's
    ``PredefinedSplit(np.where(mitdb.split == "DS2", 0, -1))`` the published division is a cross-validation of one
    fold; ``StratifiedGroupKFold`` and ``GroupShuffleSplit`` make others.

    Downloads are tested on a local server that misbehaves in every way known; PhysioNet's own was not contacted in
    the making of this version. Other addresses can be given in the environment variable ``SKECG_PHYSIONET_URL``
    (``<address>/mitdb/1.0.0/100.dat``; several, separated by blanks, are tried in turn).

    References
    ----------
    .. [1] Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng Med Biol 20(3):45-50, 2001.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.
    .. [3] de Chazal P, O'Dwyer M, Reilly RB. Automatic classification of heartbeats using ECG morphology and heartbeat
       interval features. IEEE Trans Biomed Eng 51(7):1196-1206, 2004.

    Examples
    --------
    >>> from skecg.datasets import fetch_mitdb
    >>> mitdb = fetch_mitdb(classes=("N", "PVC"), records=["100", "119"])  # doctest: +SKIP
    >>> mitdb.data.shape  # doctest: +SKIP
    (4225, 1, 720)
    """
    check_option("split", split, ("patients", "literal"))
    mitdb = fetch_windows(
        MITDB,
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
    if not return_X_y:
        mitdb.split = assign_halves(mitdb.record, split)
        if split == "literal":
            warn_of_shared(mitdb.split, mitdb.groups, stacklevel=3)
    return mitdb


@fill_fetcher
def fetch_vfdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = ("NSR", "VT", "VFL", "VF"),
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
    """Load windows inside the rhythms of the MIT-BIH Malignant Ventricular Ectopy Database.

    22 half-hour recordings at 250 Hz, two leads, of people with episodes of sustained ventricular tachycardia, flutter
    and fibrillation [1]_. Only rhythms are annotated, no beats. What is missing is downloaded from PhysioNet [2]_ and
    verified.

    Parameters
    ----------
    %(where)s
    lead : int, default=0
        The lead, 0 or 1. Both are called "ECG", so a name does not tell them apart.
    classes : str, sequence of str or mapping, default=("NSR", "VT", "VFL", "VF")
        Labels of rhythms: NSR, AFIB, SVTA, SBR, VT, VFL, VF, ASYS, BIGEMINY, HGEA, VER, NODAL, 1dAVb, PACED, NOISE.
        Where the database has two notes for one rhythm, both have one label: ``(N`` and ``(NSR`` are NSR, ``(VF`` and
        ``(VFIB`` are VF. Or a mapping of labels of your own to notes of rhythm marks, such as
        ``{"shockable": ["(VF", "(VFIB", "(VFL"], "other": "(N"}``.
    %(rhythm)s
    %(cut)s
    records : sequence of str or "local", default=None
        Names of the records; "local" means those that are in the data home already, None all 22.
    %(read)s

    Returns
    -------
    vfdb : Bunch
        With the attributes:

        %(windows)s

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    %(errors)s

    See Also
    --------
    fetch_mitdb : Beats and rhythms of the MIT-BIH Arrhythmia Database.
    concatenate_windows : Put the windows of several databases together.

    Notes
    -----
    ``(B`` is ventricular bigeminy, ``(BI`` first-degree block. PhysioNet's list of sums knows older headers than it
    serves: they are kept, with a warning, where they can be read.

    References
    ----------
    .. [1] Greenwald SD. Development and analysis of a ventricular fibrillation detector. M.S. thesis, MIT, 1986.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_vfdb
    >>> vfdb = fetch_vfdb(classes=("VF", "VFL"), window=4.0)  # doctest: +SKIP
    >>> vfdb.data.shape[1:]  # doctest: +SKIP
    (1, 1000)
    """
    return fetch_windows(
        VFDB,
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
def fetch_svdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "aami",
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
    """Load windows around the beats of the MIT-BIH Supraventricular Arrhythmia Database.

    78 half-hour recordings at 128 Hz, two leads, chosen to add supraventricular arrhythmias to the MIT-BIH Arrhythmia
    Database [1]_. What is missing is downloaded from PhysioNet [2]_ and verified.

    Parameters
    ----------
    %(where)s
    lead : int or str, default=0
        The lead, by position or by name.
    classes : str, sequence of str or mapping, default="aami"
        ``"aami"`` for the five groups of ANSI/AAMI EC57: N, SVEB, VEB, F and Q. Or labels of beats: N, PVC, SVEB. Or a
        mapping of labels of your own to annotation symbols.
    %(cut)s
    records : sequence of str or "local", default=None
        Names of the records; "local" means those that are in the data home already, None all that the database's own
        list names, which is downloaded first.
    %(read)s

    Returns
    -------
    svdb : Bunch
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
    No record of this database was at hand in the making of this version: it is read as the other four, and tested on
    records of its form.

    References
    ----------
    .. [1] Greenwald SD. Improved detection and classification of arrhythmias in noise-corrupted electrocardiograms
       using contextual information. Ph.D. thesis, Harvard-MIT Division of Health Sciences and Technology, 1990.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_svdb
    >>> svdb = fetch_svdb(records=["800", "801"])  # doctest: +SKIP
    >>> svdb.fs  # doctest: +SKIP
    128.0
    """
    return fetch_windows(
        SVDB,
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
