"""Windows of several databases in one Bunch, with patients that stay apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch

_OF_RECORDS = ("groups", "record")  # names that mean something in one database alone


def concatenate_windows(bunches: Mapping[str, Mapping[str, Any]]) -> Bunch:
    """Put the windows of several databases into one Bunch.

    Databases number their records without regard to each other: 203 is a patient of MIT-BIH and another one of the
    Long Term AF Database, whom a plain concatenation would make one. Here patients and records get the database's name
    in front, ``mitdb/203``.

    Parameters
    ----------
    bunches : mapping
        Name of each database, and its windows as a fetcher or a ``segment_*`` function returned them. All must have
        the same sampling rate, number of time steps and number of leads: resample first, as in the example.

    Returns
    -------
    windows : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32, mV, or None
            The windows, in the order of the mapping; a copy. None where one of them has none.
        target : ndarray of str, shape (n_samples,)
            Labels.
        groups, record : ndarray of str, shape (n_samples,)
            Patient and record, with the database's name in front.
        database : ndarray of str, shape (n_samples,)
            The name.
        fs : float
            Sampling rate of ``data``, Hz.
        lead_names : list of str
            One name a lead; different ones joined by ``/``.
        DESCR : str
            The pages of all of them.

        Further, each array with one row a window that all of them have, such as ``sample`` and ``start``: positions in
        the records' own files, at the files' own sampling rate.

    Raises
    ------
    ValueError
        For nothing to put together, or for different sampling rates, lengths or numbers of leads; it names them and
        says what to do.

    See Also
    --------
    fetch_mitdb, fetch_vfdb : Where such windows come from.
    skecg.preprocessing.Resampler : Brings them to one sampling rate.

    Examples
    --------
    The eight classes of Vijayarangan et al. (2020) without the long-term databases: beats, fibrillation and bradycardia
    from MIT-BIH, and more supraventricular tachycardia from vfdb, at 360 Hz.

    >>> from skecg.datasets import concatenate_windows, fetch_mitdb, fetch_vfdb
    >>> from skecg.preprocessing import Resampler
    >>> beats, rhythms = ("N", "PVC", "PAC", "LBBB", "RBBB"), ("AFIB", "SVTA", "SBR")
    >>> mitdb = fetch_mitdb(classes=beats + rhythms, max_per_class=2000, random_state=0)  # doctest: +SKIP
    >>> vfdb = fetch_vfdb(classes=rhythms)  # doctest: +SKIP
    >>> vfdb.data = Resampler(vfdb.fs, mitdb.fs).fit_transform(vfdb.data)  # doctest: +SKIP
    >>> vfdb.fs = mitdb.fs  # doctest: +SKIP
    >>> windows = concatenate_windows({"mitdb": mitdb, "vfdb": vfdb})  # doctest: +SKIP
    """
    if not isinstance(bunches, Mapping) or not all(isinstance(part, Mapping) for part in bunches.values()):
        raise TypeError(f"bunches must be a mapping of names to windows; got a {type(bunches).__name__}")
    if not bunches:
        raise ValueError("bunches is empty: give at least one database's windows")
    names, parts = [str(name) for name in bunches], list(bunches.values())
    for name, part in zip(names, parts, strict=True):
        if lacking := {"data", "target", "groups", "record", "fs"} - set(part):
            raise ValueError(f"{name} has no {', '.join(sorted(lacking))}: it must be what a fetcher returns")
    _check_same("sampling rates", names, [f"{part['fs']:g} Hz" for part in parts])
    data = None
    if all(part["data"] is not None for part in parts):
        _check_same("shapes of windows", names, [str(np.shape(part["data"])[1:]) for part in parts])
        data = np.concatenate([part["data"] for part in parts])
    counts = [len(part["target"]) for part in parts]
    columns = {}
    for key in parts[0]:
        if key != "data" and all(_is_column(part.get(key), n) for part, n in zip(parts, counts, strict=True)):
            values = [np.asarray(part[key]) for part in parts]
            if key in _OF_RECORDS:
                values = [np.char.add(f"{name}/", value.astype(str)) for name, value in zip(names, values, strict=True)]
            columns[key] = np.concatenate(values)
    leads = [list(part.get("lead_names", [])) for part in parts]
    return Bunch(
        data=data,
        **columns,
        database=np.repeat(names, counts),
        fs=parts[0]["fs"],
        lead_names=["/".join(dict.fromkeys(several)) for several in zip(*leads, strict=False)],
        DESCR="\n\n".join(str(part.get("DESCR", name)) for name, part in zip(names, parts, strict=True)),
    )


def _is_column(values: Any, n: int) -> bool:
    return isinstance(values, np.ndarray) and values.ndim >= 1 and len(values) == n


def _check_same(what: str, names: list[str], values: list[str]) -> None:
    if len(set(values)) > 1:
        told = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        raise ValueError(
            f"the {what} differ: {told}; bring them together first, e.g. data = Resampler(fs_in, fs_out)"
            f".fit_transform(data) of skecg.preprocessing, and set fs"
        )
