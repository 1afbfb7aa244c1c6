"""Einthoven's law in numbers: how far limb leads are from it, and which order of leads obeys it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations

import numpy as np

# Each limb lead as a combination of I and II.
FRONTAL = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
# One wrong lead leaves two of these pairs right, and two wrong ones leave one.
_PAIRS = (("I", "II"), ("III", "aVR"), ("aVL", "aVF"))
# Fewer leads than this obey one relation only, which several orders do.
_ENOUGH = 4
# Orders that are looked at closely, of those that fit most leads at first sight.
_CLOSELY = 8

Found = dict[str, tuple[int, int]]  # name -> (row, sign)


def relative_errors(gram: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return, for each recording, how far the limb leads are from what two of them say.

    Parameters
    ----------
    gram : ndarray of shape (n_samples, n_leads, n_leads)
        Covariances of the leads.
    names : sequence of str
        Canonical names of the leads.

    Returns
    -------
    error : ndarray of shape (n_samples,)
        The root mean square of the largest disagreement of a lead, over that of the limb leads.
    """
    limb = [name for name in FRONTAL if name in names]
    rows = [names.index(name) for name in limb]
    misfit = np.zeros((len(limb), len(names)))  # of each lead: itself minus what the first two say
    misfit[range(len(limb)), rows] = 1
    misfit[:, rows[:2]] -= _weights(limb, limb[:2])
    square = np.einsum("kl,nlm,km->nk", misfit, gram, misfit, optimize=True).max(axis=1)
    power = np.einsum("nkk->n", gram[:, rows][:, :, rows]) / len(limb)
    return np.sqrt(np.maximum(square, 0) / np.where(power > 0, power, 1))


def find_order(gram: np.ndarray, names: Sequence[str], tol: float) -> str:
    """Say what is wrong with a recording whose limb leads disagree.

    Parameters
    ----------
    gram : ndarray of shape (n_leads, n_leads)
        Covariances of the leads of the recording.
    names : sequence of str
        Canonical names of the leads.
    tol : float
        As for ``relative_errors``.

    Returns
    -------
    problem : str
        Which lead disagrees, or which order would fit.
    """
    limb = {name: names.index(name) for name in FRONTAL if name in names}
    power = float(np.mean([gram[row, row] for row in limb.values()]))
    flat = [name for name, row in limb.items() if gram[row, row] <= 1e-12 * power]
    if flat:
        return f"{_list(flat)} {'is' if len(flat) == 1 else 'are'} flat"
    if len(limb) < _ENOUGH:
        return f"{_list(list(limb))} disagree"
    if fits_up_to_gains(gram, {name: (row, 1) for name, row in limb.items()}, tol):
        return (
            "each lead has a gain of its own (the order is right), so amplitudes of two leads cannot be compared and "
            "no lead can be derived"
        )
    best = _search(gram, limb, tol**2 * power)
    if not best:
        for found in _small_changes(limb):
            if fits_up_to_gains(gram, found, tol):
                best = found
                break
    return _tell(best, limb, names) if best else f"{_list(list(limb))} disagree, and no order of the leads fits"


def fits_up_to_gains(gram: np.ndarray, found: Mapping[str, tuple[int, int]], tol: float) -> bool:
    """Tell whether leads obey the law once each is multiplied by a positive gain of its own.

    Some databases scale each lead to one range. With the ratio of two gains, the wave of each other lead is known, and
    only its size is free.

    Parameters
    ----------
    gram : ndarray of shape (n_leads, n_leads)
        Covariances of the leads of the recording.
    found : mapping of str to (int, int)
        Row and sign of each limb lead, four or more.
    tol : float
        The largest misfit of a lead, as a share of the lead.

    Returns
    -------
    fits : bool
        Whether they do.
    """
    names = list(found)
    rows, signs = np.array(list(found.values())).T
    g = gram[np.ix_(rows, rows)] * np.outer(signs, signs)
    if not (np.diag(g) > 0).all():
        return False
    weights = _weights(names, names[:2])
    others = [k for k in range(2, len(names)) if weights[k].all()]
    fit = np.linalg.lstsq(g[:2, :2], g[:2, others], rcond=None)[0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (fit[:, 1] / fit[:, 0]) / (weights[others, 1] / weights[others, 0])
    for ratio in ratios[np.isfinite(ratios) & (ratios > 0)]:
        said = weights[2:] * np.array([1.0, ratio])
        power = np.einsum("ka,ab,kb->k", said, g[:2, :2], said)
        along = np.einsum("ka,ak->k", said, g[:2, 2:])
        own = np.diag(g)[2:]
        if (along > 0).all() and (own - along**2 / np.maximum(power, 1e-300) <= tol**2 * own).all():
            return True
    return False


def _weights(limb: Sequence[str], pair: Sequence[str]) -> np.ndarray:
    """Return each lead's weights (n, 2) of the two leads of a pair."""
    return np.array([FRONTAL[name] for name in limb]) @ np.linalg.inv([FRONTAL[name] for name in pair])


def _search(gram: np.ndarray, limb: Mapping[str, int], limit: float) -> Found:
    """Return the rows and signs that obey the law for most leads, and change the fewest; nothing where none does."""
    best: Found = {}
    key = (0, 0, 0.0)  # leads that fit, less the changes, less the misfit
    channels = np.array(list(permutations(range(len(gram)), 2)))
    for pair in _PAIRS:
        if not set(pair) <= set(limb):
            continue
        weights = _weights(list(limb), pair)
        i, j = channels.T
        two = np.stack([np.stack([gram[i, i], gram[i, j]], -1), np.stack([gram[j, i], gram[j, j]], -1)], -2)
        said = np.einsum("ka,pab,kb->pk", weights, two, weights, optimize=True)
        cross = np.einsum("ka,pam->pkm", weights, gram[channels], optimize=True)
        signs = np.array([1.0, -1.0])[:, None, None, None]
        misfit = np.diag(gram) + said[:, :, None] - 2 * signs * cross  # (sign, pair of rows, lead, row)
        promising = (misfit.min(axis=(0, 3)) <= limit).sum(axis=1)
        for p in np.argsort(-promising, kind="stable")[:_CLOSELY]:
            found, total = _assign(misfit[:, p], limb, pair, channels[p].tolist(), limit)
            # An inversion counts threefold: I and II swapped, and III inverted, would often do as well as the truth.
            changes = sum((row != limb[name]) + 3 * (sign < 0) for name, (row, sign) in found.items())
            if (len(found), -changes, -total) > key:
                key, best = (len(found), -changes, -total), found
    # Many rows that fit are no chance; with fewer, those that fit must be the ones that are called so.
    return best if key[0] >= min(len(limb), _ENOUGH + 1) or (key[0] >= _ENOUGH and key[1] == 0) else {}


def _assign(
    misfit: np.ndarray, limb: Mapping[str, int], pair: tuple[str, str], rows: Sequence[int], limit: float
) -> tuple[Found, float]:
    """Give each lead a row of its own that fits, if two rows are the leads of a pair; return the sum of misfits too."""
    found: Found = dict(zip(pair, ((row, 1) for row in rows), strict=True))
    total = 0.0
    for k, (name, own) in enumerate(limb.items()):
        if name in pair:
            continue
        sign, row = (0, own) if misfit[0, k, own] <= limit else divmod(int(misfit[:, k].argmin()), misfit.shape[2])
        if misfit[sign, k, row] <= limit and row not in {taken for taken, _ in found.values()}:
            found[name] = (row, 1 - 2 * sign)
            total += float(misfit[sign, k, row])
    return found, total


def _small_changes(limb: Mapping[str, int]) -> list[Found]:
    """Return the orders with one lead inverted, and those with two swapped."""
    plain = {name: (row, 1) for name, row in limb.items()}
    inverted = [plain | {name: (row, -1)} for name, row in limb.items()]
    swapped = [plain | {a: plain[b], b: plain[a]} for a, b in combinations(limb, 2)]
    return inverted + swapped


def _tell(found: Found, limb: Mapping[str, int], names: Sequence[str]) -> str:
    """Put into words how the rows found for the leads differ from those that have their names."""
    told = []
    found = {name: found[name] for name in limb if name in found}
    moved = {name: names[row] for name, (row, _) in found.items() if names[row] != name}
    if len(moved) == 2 and all(moved.get(other) == name for name, other in moved.items()):
        told.append(f"{_list(list(moved))} look swapped")
    elif len(moved) > 2 and len(found) == len(limb):
        fitting = list(names)
        for name, (row, _) in found.items():
            fitting[row] = name
        if len(set(fitting)) == len(fitting):
            told.append(f"lead_names={fitting} would fit")
    if moved and not told:
        told.append("; ".join(f"what is called {other} looks like {name}" for name, other in moved.items()))
    inverted = [name for name, (_, sign) in found.items() if sign < 0]
    if inverted:
        told.append(f"{_list(inverted)} {'looks' if len(inverted) == 1 else 'look'} inverted")
    taken = {names[row] for row, _ in found.values()}
    lost = [name for name in limb if name not in found and name not in taken]
    if lost:
        told.append(f"{_list(lost)} {'disagrees' if len(lost) == 1 else 'disagree'} with the other limb leads")
    return ", and ".join(told)


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
