"""Where the leads of make_ecg look at the heart from: lead vectors, exact limb leads, turns of the heart."""

from __future__ import annotations

import numpy as np

# Fewer than twelve: II as in MIT-BIH, then V1 and V5 as in Holter recordings, then what is left, limb leads first.
LEAD_ORDER = ("II", "V1", "V5", "I", "III", "aVR", "aVL", "aVF", "V2", "V3", "V4", "V6")

# Dower, Machado, Osborne, Clinical Cardiology 3:87-95, 1980: leads from a heart vector (x left, y down, z back).
_DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
# The other limb leads as (parts of I, parts of II): Einthoven's III and Goldberger's three.
_DERIVED = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
# Steps of 2**-14 mV (0.06 uV): sums, differences and halves of I and II are then exact in float32.
_STEPS_PER_MV = 2.0**14
LEAD_II = np.array(_DOWER["II"])
# An augmented lead shows sqrt(3)/2 of what a bipolar one does of the same vector.
_AUGMENTED = 2 / np.sqrt(3)
_BATCH = 2**22  # numbers of the heart vector projected at a time, which bounds the memory beside the leads


def lead_matrix(names: tuple[str, ...]) -> np.ndarray:
    """Return the lead vectors (n_leads, 3) of these leads."""
    one, two = np.array(_DOWER["I"]), np.array(_DOWER["II"])
    rows = [_DERIVED[k][0] * one + _DERIVED[k][1] * two if k in _DERIVED else np.array(_DOWER[k]) for k in names]
    return np.stack(rows)


def project(heart: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return the leads (n, n_leads, n_timesteps) float32 of heart vectors (n, 3, n_timesteps).

    I and II lie on a grid of binary fractions, and the other limb leads are formed from them: III = II - I and
    aVR + aVL + aVF = 0 hold to the last bit.
    """
    leads = np.empty((len(heart), len(names), heart.shape[2]), dtype=np.float32)
    limb = not _DERIVED.keys().isdisjoint(names)
    needed = [name for name in _DOWER if name in names or (limb and name in ("I", "II"))]
    step = max(1, _BATCH // (3 * heart.shape[2]))
    for first in range(0, len(heart), step):
        rows = slice(first, first + step)
        measured = {}
        for name in needed:
            value = np.array(_DOWER[name]) @ heart[rows]
            value *= _STEPS_PER_MV
            np.round(value, out=value)
            value /= _STEPS_PER_MV
            if name in ("I", "II") and limb:
                measured[name] = value
            if name in names:
                leads[rows, names.index(name)] = value
        for i, name in enumerate(names):
            if name in _DERIVED:
                one, two = _DERIVED[name]
                leads[rows, i] = one * measured["I"] + two * measured["II"]
    return leads


def across(left_back: np.ndarray) -> np.ndarray:
    """Return heart vectors (..., 3) that lead II does not see, by their parts to the left and to the back (..., 2)."""
    left, back = np.moveaxis(np.asarray(left_back, dtype=np.float64), -1, 0)
    down = -(LEAD_II[0] * left + LEAD_II[2] * back) / LEAD_II[1]
    return np.stack([left, down, back], axis=-1)


def turns(degrees: np.ndarray) -> np.ndarray:
    """Return rotations (P, 3, 3) in the frontal plane and then in the horizontal one, by (P, 2) degrees."""
    (a, b), zero, one = np.deg2rad(degrees).T, np.zeros(len(degrees)), np.ones(len(degrees))
    frontal = np.array([[np.cos(a), -np.sin(a), zero], [np.sin(a), np.cos(a), zero], [zero, zero, one]])
    horizontal = np.array([[np.cos(b), zero, -np.sin(b)], [zero, one, zero], [np.sin(b), zero, np.cos(b)]])
    return np.einsum("ijp,jkp->pik", horizontal, frontal)


def turns_about_ii(degrees: np.ndarray) -> np.ndarray:
    """Return rotations (P, 3, 3) about the direction of lead II, which shows nothing of them."""
    u = LEAD_II / np.linalg.norm(LEAD_II)
    cross = np.array([[0.0, -u[2], u[1]], [u[2], 0.0, -u[0]], [-u[1], u[0], 0.0]])
    a = np.deg2rad(degrees)[:, None, None]
    return np.cos(a) * np.eye(3) + np.sin(a) * cross + (1 - np.cos(a)) * np.outer(u, u)


def frontal_axis(vector: np.ndarray) -> np.ndarray:
    """Return the frontal axis in degrees of heart vectors (..., 3), as it is read from leads I and aVF."""
    one, foot = np.moveaxis(vector @ lead_matrix(("I", "aVF")).T, -1, 0)
    return np.rad2deg(np.arctan2(_AUGMENTED * foot, one))


def degrees_to_axis(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the turns in the frontal plane, degrees (P,), that bring vectors (P, 3) to these axes (P,).

    The axis is right where ``g . v = 0`` for a lead ``g`` at right angles to it; in the angle of the turn that is
    ``A cos + B sin = C``. Of its two solutions one points the other way.
    """
    one, foot = lead_matrix(("I", "aVF"))
    aim = np.deg2rad(axis)[:, None]
    g = np.sin(aim) * one - np.cos(aim) * _AUGMENTED * foot
    a = g[:, 0] * vector[:, 0] + g[:, 1] * vector[:, 1]
    b = g[:, 1] * vector[:, 0] - g[:, 0] * vector[:, 1]
    c = -g[:, 2] * vector[:, 2]
    middle, half = np.arctan2(b, a), np.arccos(np.clip(c / np.hypot(a, b), -1, 1))
    both = np.rad2deg(np.stack([middle - half, middle + half]))
    forward = np.cos(aim) * one + np.sin(aim) * _AUGMENTED * foot
    zero = np.zeros(len(vector))
    ahead = [np.einsum("pi,pij,pj->p", forward, turns(np.stack([k, zero], axis=1)), vector) for k in both]
    chosen = np.where(ahead[0] > ahead[1], both[0], both[1])
    return (chosen + 180) % 360 - 180
