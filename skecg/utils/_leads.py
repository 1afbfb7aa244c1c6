"""Leads by name: canonical names and order, leads derived from others, and guards of units and of lead order."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._einthoven import FRONTAL, find_order, relative_errors
from ._validation import check_number, check_option

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

_BY_LOWER = {name.lower(): name for name in STANDARD_LEADS}
_BY_LOWER |= {f"d{name.lower()}": name for name in ("I", "II", "III")}  # Latin America writes DI, DII, DIII
_ROMAN = {"1": "I", "2": "II", "3": "III", "i": "I", "ii": "II", "iii": "III"}
_MODIFIED_LIMB, _MODIFIED_CHEST = re.compile(r"ml(i{1,3}|[123])"), re.compile(r"m(?:cl|v)([1-6])")

# Peak-to-peak ranges (mV) outside of which an ECG is no ECG in mV; measured on 12-lead databases, see check_units.
_VOLT, _LOWEST, _HIGHEST, _MICROVOLT = 0.01, 0.1, 12.0, 100.0
# Values in one block of float64 copies.
_BLOCK = 2**21


def canonical_name(name: str, *, modified: bool = False) -> str:
    """Return the usual spelling of a lead's name.

    Case does not matter (``AVR``, ``avr``), nor a leading "lead" or white space; ``DI``, ``DII``, ``DIII`` are I, II,
    III. A name that is none of the twelve comes back as it is, without white space around it.

    Parameters
    ----------
    name : str
        A name as headers have it.
    modified : bool, default=False
        Whether modified leads count as what they imitate: MLI, MLII, MLIII (also ML1 to ML3) as I, II, III, and MCL1
        to MCL6 (also MV1 to MV6) as V1 to V6. Their electrodes are on the trunk, so they are similar, not the same.

    Returns
    -------
    name : str
        One of I, II, III, aVR, aVL, aVF, V1 to V6, or the name itself.

    Raises
    ------
    TypeError
        For what is no string.

    Examples
    --------
    >>> from skecg.preprocessing import canonical_name
    >>> [canonical_name(name) for name in ("AVR", "v1", "DII", "MLII")]
    ['aVR', 'V1', 'II', 'MLII']
    >>> canonical_name("MLII", modified=True)
    'II'
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a lead must be a string; got {name!r}")
    plain = str(name).strip()
    short = re.sub(r"^lead[\s_]*", "", plain, flags=re.IGNORECASE).lower()
    if short in _BY_LOWER:
        return _BY_LOWER[short]
    if modified:
        if limb := _MODIFIED_LIMB.fullmatch(short):
            return _ROMAN[limb[1]]
        if chest := _MODIFIED_CHEST.fullmatch(short):
            return f"V{chest[1]}"
    return plain


def canonical_names(names: Iterable[str], what: str = "lead_names", *, modified: bool = False) -> list[str]:
    """Return the usual spellings of several names; ValueError for a lone string, which is no list of names."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"{what} must be a list of names, such as ['I', 'II']; got {names!r}")
    found = [canonical_name(name, modified=modified) for name in names]
    if not found:
        raise ValueError(f"{what} must name at least one lead; got none")
    return found


def arrange_leads(
    data: Any,
    lead_names: Sequence[str],
    order: Sequence[str] = STANDARD_LEADS,
    *,
    derive: bool = True,
    missing: str = "raise",
    modified: bool = False,
) -> tuple[np.ndarray, Bunch]:
    """Put leads into an order by their names, and derive the limb leads that are missing.

    Any two of I, II, III, aVR, aVL, aVF determine the other four [1]_: III = II - I, aVR = -(I + II) / 2,
    aVL = I - II / 2, aVF = II - I / 2. So a limb lead that is missing is computed from the first two that are there.
    The chest leads cannot be derived.

    Parameters
    ----------
    data : array-like of shape (n_leads, n_timesteps) or (n_samples, n_leads, n_timesteps)
        One recording, or several; NaN is allowed.
    lead_names : sequence of str of length n_leads
        The names of the leads as they stand in ``data``, in any usual spelling.
    order : sequence of str, default=STANDARD_LEADS
        The leads wanted. Others are left out.
    derive : bool, default=True
        Whether missing limb leads are derived from two others.
    missing : {"raise", "nan", "zero", "drop"}, default="raise"
        What happens with a lead that is neither there nor derived: a ValueError, a lead of NaN or of zeros, or no
        such lead in the result.
    modified : bool, default=False
        Whether MLII counts as II and the like, see :func:`canonical_name`.

    Returns
    -------
    data : ndarray of shape (n_out, n_timesteps) or (n_samples, n_out, n_timesteps)
        The leads in the order wanted; float32, or float64 where ``data`` was. Where nothing is to be done this is
        ``data`` itself, without a copy.
    info : Bunch
        ``lead_names`` of the result, and which of them were ``derived`` and which are ``missing`` (lists of str).

    Raises
    ------
    ValueError
        For leads that are missing, that have one name twice, or that are not as many as the names.

    See Also
    --------
    LeadArranger : The same as a step of a pipeline.
    check_lead_order : Whether the names are right.

    References
    ----------
    .. [1] W. Einthoven, G. Fahr, A. de Waart, "On the direction and manifest size of the variations of potential in
           the human heart and on the influence of the position of the heart on the form of the electrocardiogram",
           American Heart Journal 40, 163-211, 1950 (translated from Pflügers Archiv 150, 275-315, 1913).

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import arrange_leads
    >>> data = np.array([[0.8, 1.0], [0.5, 0.4]])  # II, then I
    >>> limb, info = arrange_leads(data, ["DII", "DI"], ["I", "II", "III", "aVR"])
    >>> limb.round(2).tolist()
    [[0.5, 0.4], [0.8, 1.0], [0.3, 0.6], [-0.65, -0.7]]
    >>> info.derived
    ['III', 'aVR']
    """
    check_option("missing", missing, ("raise", "nan", "zero", "drop"))
    array = as_leads(data)
    names = canonical_names(lead_names, modified=modified)
    check_count(array, names)
    wanted = check_unique(canonical_names(order, "order"), "order")
    plan = plan_leads(names, wanted, derive)
    if plan.missing and missing == "raise":
        raise ValueError(
            f"no lead {', '.join(plan.missing)} among {', '.join(names)}"
            + (" and no two limb leads to derive it from" if derive and set(plan.missing) & set(FRONTAL) else "")
            + "; missing='nan', 'zero' or 'drop' goes on without"
        )
    out_names = [name for name in wanted if missing != "drop" or name not in plan.missing]
    if not out_names:
        raise ValueError(f"none of the leads {', '.join(wanted)} is among {', '.join(names)}")
    out = take_leads(array, plan, out_names, np.nan if missing == "nan" else 0.0)
    return out, Bunch(lead_names=out_names, derived=plan.derived, missing=plan.missing)


def as_leads(data: Any) -> np.ndarray:
    """Return data as a float array of two or three dimensions, float64 where it was that, else float32."""
    array = np.asarray(data)
    if array.dtype.kind == "O":
        raise TypeError("data must be numeric, of one length; got an array of objects")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"data must be real numbers; got dtype {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            "data must be (n_leads, n_timesteps) or (n_samples, n_leads, n_timesteps), none of them 0; got shape "
            f"{array.shape}"
        )
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)


def check_count(array: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError where there are not as many names as leads."""
    if array.shape[-2] != len(names):
        hint = " (windows of one lead: pass data[:, None])" if array.ndim == 2 and len(names) == 1 else ""
        raise ValueError(
            f"data of shape {array.shape} has {array.shape[-2]} leads, but lead_names has {len(names)}: "
            f"{', '.join(names)}{hint}"
        )


def check_unique(names: list[str], what: str) -> list[str]:
    """Return the names; ValueError where one stands twice."""
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ValueError(f"{what} has {', '.join(twice)} more than once")
    return names


def plan_leads(names: list[str], wanted: list[str], derive: bool = True) -> Bunch:
    """Return where each wanted lead comes from.

    Parameters
    ----------
    names : list of str
        Canonical names of the leads that are there.
    wanted : list of str
        Canonical names of the leads wanted.
    derive : bool, default=True
        Whether limb leads are derived.

    Returns
    -------
    plan : Bunch
        ``rows``: name -> row; ``weights``: name -> ((row, weight), (row, weight)); ``derived`` and ``missing``: names.
    """
    absent = [name for name in wanted if name not in names]
    limb = [name for name in STANDARD_LEADS if name in FRONTAL and name in names][:2]
    derived = [name for name in absent if derive and name in FRONTAL and len(limb) == 2]
    used = {name for name in wanted if name in names} | (set(limb) if derived else set())
    check_unique([name for name in names if name in used], "lead_names")
    weights = {}
    if derived:
        basis = np.linalg.inv([FRONTAL[name] for name in limb])
        for name in derived:
            both = (np.array(FRONTAL[name]) @ basis).tolist()
            weights[name] = tuple((names.index(lead), weight) for lead, weight in zip(limb, both, strict=True))
    return Bunch(
        rows={name: names.index(name) for name in wanted if name in names},
        weights=weights,
        derived=derived,
        missing=[name for name in absent if name not in derived],
    )


def take_leads(array: np.ndarray, plan: Bunch, out_names: Sequence[str], fill: float) -> np.ndarray:
    """Return the leads (..., n_out, n_timesteps) that a plan says, missing ones filled; a copy only if needed."""
    rows = [plan.rows.get(name) for name in out_names]
    if None not in rows:
        whole = rows == list(range(array.shape[-2]))
        return array if whole else array[..., rows, :]
    out = np.empty((*array.shape[:-2], len(rows), array.shape[-1]), dtype=array.dtype)
    for i, (name, row) in enumerate(zip(out_names, rows, strict=True)):
        if row is not None:
            out[..., i, :] = array[..., row, :]
        elif name in plan.weights:
            (first, a), (second, b) = plan.weights[name]
            out[..., i, :] = a * array[..., first, :] + b * array[..., second, :]
        else:
            out[..., i, :] = fill
    return out


def check_units(data: Any) -> Bunch:
    """Warn where the amplitude of an ECG says that it is not in mV.

    The measure is the range between the 0.5th and the 99.5th percentile of each lead, and of these ranges the median
    over the leads of a recording that are not flat. That of an ECG of the body surface in mV lies between 0.1 and
    12; below 0.01 the recording looks as if it were in V, above 100 as if in uV, or in the units of the converter.

    Parameters
    ----------
    data : array-like of shape (n_leads, n_timesteps) or (n_samples, n_leads, n_timesteps)
        What should be mV; NaN is left out. At least one second each, so that there is a beat in it.

    Returns
    -------
    result : Bunch
        ``amplitude``, ndarray of shape (n_samples,): the measure, in the unit of ``data``; NaN where all leads are
        flat. ``looks_like``, ndarray of str of the same shape: "mV", "V", "uV", "low" or "high" (mV can hardly be, and
        no other unit fits), "flat".

    Warns
    -----
    UserWarning
        For recordings that do not look like mV, with their number, the unit that they look like and the factor.

    See Also
    --------
    to_millivolts : Converts.

    Examples
    --------
    >>> import warnings
    >>> from skecg import make_ecg
    >>> from skecg.preprocessing import check_units
    >>> X = make_ecg(10, classes=("N",), random_state=0).data
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     check_units(X), check_units(1000 * X)
    ({...}, {...})
    >>> [str(w.message).partition(":")[0] for w in caught]
    ['10 of 10 recordings look like uV, not mV (amplitude ...)']
    """
    array = as_leads(data)
    cube = array if array.ndim == 3 else array[None]
    amplitude = np.empty(len(cube))
    step = max(1, _BLOCK // cube[0].size)
    for start in range(0, len(cube), step):
        amplitude[start : start + step] = _amplitude(cube[start : start + step])
    looks_like = np.select(
        [np.isnan(amplitude), amplitude < _VOLT, amplitude < _LOWEST, amplitude <= _HIGHEST, amplitude <= _MICROVOLT],
        ["flat", "V", "low", "mV", "high"],
        "uV",
    )
    for kind, what in (
        ("V", "look like V, not mV ({}): multiply by 1000, or say unit='V'"),
        ("uV", "look like uV, not mV ({}): divide by 1000, or say unit='uV'; or apply the gain of the header"),
        ("low", "are too small for an ECG in mV ({}): look at the gain"),
        ("high", "are too large for an ECG in mV ({}): look at the gain; or are they standardised already"),
    ):
        of_kind = amplitude[looks_like == kind]
        if len(of_kind):
            told = what.format(f"amplitude {np.median(of_kind):.3g}")
            warnings.warn(f"{len(of_kind)} of {len(cube)} recordings {told}", stacklevel=2)
    return Bunch(amplitude=amplitude, looks_like=looks_like)


def _amplitude(cube: np.ndarray) -> np.ndarray:
    """Return the median, over the leads that are not flat, of the range between two percentiles, (n_samples,)."""
    finite = np.isfinite(cube)
    whole = bool(finite.all())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of leads that are NaN or flat throughout
        percentile = np.percentile if whole else np.nanpercentile
        low, high = percentile(cube if whole else np.where(finite, cube, np.nan), (0.5, 99.5), axis=-1)
        ranges = (high - low).astype(np.float64)
        ranges[~(ranges > 0)] = np.nan
        return np.nanmedian(ranges, axis=-1)


def check_lead_order(data: Any, lead_names: Sequence[str], *, tol: float = 0.05) -> Bunch:
    """Warn where the limb leads break Einthoven's law, which means that leads have wrong names.

    Electrodes on three limbs make six leads, of which any two determine the others (see :func:`arrange_leads`).
    Where the leads do not agree, those that agree are sought among all leads, swapped and inverted, and the warning
    says which lead disagrees and which order would fit.

    Some databases, LUDB among them, stretch each lead to one range: the leads then obey the law but for a gain each,
    and the warning says so, for amplitudes of such leads cannot be compared.

    Exchanged *electrodes* obey the law, and so do exchanged chest leads: neither is found. With I, II and III alone,
    I and III may be exchanged unnoticed.

    Parameters
    ----------
    data : array-like of shape (n_leads, n_timesteps) or (n_samples, n_leads, n_timesteps)
        One recording, or several, in any unit; time steps with NaN are left out.
    lead_names : sequence of str of length n_leads
        The names to be checked, in any usual spelling.
    tol : float, default=0.05
        The largest root mean square of the disagreement of a lead that is still rounding or noise, as a share of the
        root mean square of the limb leads. Each lead's mean is taken off before.

    Returns
    -------
    result : Bunch
        ``agrees``, ndarray of bool of shape (n_samples,), True where there is nothing to find, as with fewer than
        three limb leads; ``error``, ndarray of shape (n_samples,): the largest disagreement of a lead, to be compared
        with ``tol``; ``problem``, list of str: what is wrong in each recording, "" where it agrees.

    Raises
    ------
    ValueError
        For a name of a limb lead that stands twice, or names that are not as many as the leads.

    Warns
    -----
    UserWarning
        For each kind of problem, with the number of recordings that have it.

    See Also
    --------
    arrange_leads : Puts leads into an order by their names.

    Examples
    --------
    >>> import warnings
    >>> from skecg import make_ecg
    >>> from skecg.preprocessing import check_lead_order
    >>> ecg = make_ecg(3, classes=("N",), n_leads=12, noise=0.0, random_state=0)
    >>> names = [{"aVL": "AVF", "aVF": "AVL"}.get(name, name) for name in ecg.lead_names]
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     result = check_lead_order(ecg.data, names)
    >>> print(caught[0].message)
    3 of 3 recordings break Einthoven's law: aVL and aVF look swapped
    """
    check_number("tol", tol, low=0, strict=True)
    array = as_leads(data)
    names = canonical_names(lead_names)
    check_count(array, names)
    limb = check_unique([name for name in names if name in FRONTAL], "lead_names")
    cube = array if array.ndim == 3 else array[None]
    error, problem = np.zeros(len(cube)), [""] * len(cube)
    if len(limb) >= 3:
        step = max(1, _BLOCK // cube[0].size)
        for start in range(0, len(cube), step):
            gram = _gram(cube[start : start + step])
            error[start : start + step] = relative_errors(gram, names)
            for i in np.flatnonzero(error[start : start + step] > tol):
                problem[start + i] = find_order(gram[i], names, tol)
    for what, n in Counter(filter(None, problem)).most_common():
        warnings.warn(f"{n} of {len(cube)} recordings break Einthoven's law: {what}", stacklevel=2)
    return Bunch(agrees=error <= tol, error=error, problem=problem)


def _gram(cube: np.ndarray) -> np.ndarray:
    """Return the covariances (n_samples, n_leads, n_leads) of the leads over the time steps that are finite."""
    x = cube.astype(np.float64)
    finite = np.isfinite(x).all(axis=1, keepdims=True)
    if not finite.all():
        x = np.where(finite, x, 0.0)
    n = np.maximum(finite.sum(axis=-1, keepdims=True), 1)
    x -= x.sum(axis=-1, keepdims=True) / n
    x *= finite
    return x @ x.swapaxes(1, 2) / n


def to_millivolts(data: Any, *, unit: str = "mV", gain: Any = None, baseline: Any = 0.0) -> np.ndarray:
    """Convert an ECG to mV, from another unit or from the digital values of a header's gain.

    Parameters
    ----------
    data : array-like of shape (n_leads, n_timesteps) or (n_samples, n_leads, n_timesteps)
        ECG; NaN stays NaN.
    unit : {"V", "mV", "uV", "µV"}, default="mV"
        The unit of ``data``; with ``gain``, the unit that the gain is for.
    gain : float or array-like of shape (n_leads,), default=None
        Digital values for one ``unit``, such as the 200 of MIT-BIH's headers; None where ``data`` has a unit already.
    baseline : float or array-like of shape (n_leads,), default=0.0
        The digital value that means zero, such as 1024; read where ``gain`` is given.

    Returns
    -------
    data : ndarray of the same shape
        ECG, mV; float32, or float64 where ``data`` was.

    Raises
    ------
    ValueError
        For an unknown unit, a gain that is zero or not finite, or as many gains as there are no leads.

    See Also
    --------
    check_units : Tells from the amplitude which unit it is.

    Examples
    --------
    >>> from skecg.preprocessing import to_millivolts
    >>> to_millivolts([[1024, 1224, 924]], gain=200, baseline=1024)
    array([[ 0. ,  1. , -0.5]], dtype=float32)
    """
    check_option("unit", unit, ("V", "mV", "uV", "µV"))
    array = as_leads(data)
    factor = {"V": 1000.0, "mV": 1.0}.get(unit, 0.001)
    if gain is None:
        return array if unit == "mV" else array * np.asarray(factor, dtype=array.dtype)
    per_lead = {}
    for name, value in (("gain", gain), ("baseline", baseline)):
        numbers = np.asarray(value, dtype=np.float64)
        if numbers.ndim > 1 or (numbers.ndim and len(numbers) != array.shape[-2]):
            raise ValueError(f"{name} must be a number or one for each of {array.shape[-2]} leads; got {value!r}")
        if not np.isfinite(numbers).all() or (name == "gain" and not numbers.all()):
            raise ValueError(f"{name} must be finite{' and not 0' if name == 'gain' else ''}; got {value!r}")
        per_lead[name] = numbers.reshape(-1, 1) if numbers.ndim else numbers
    return ((array - per_lead["baseline"]) * (factor / per_lead["gain"])).astype(array.dtype)
