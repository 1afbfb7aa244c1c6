"""Windows of make_ecg that its tests share, and how they are taken apart."""

from functools import cache

import numpy as np

from skecg.datasets import make_ecg

CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB", "AFIB", "SVTA", "SBR")
PLACED = ("PVC", "PAC", "LBBB", "RBBB")


@cache
def bunch(n_samples=400, *, classes=("N", *PLACED), **options):
    """Return windows that several tests look at and none changes."""
    return make_ecg(n_samples, classes=classes, **{"random_state": 0, **options})


def clean(n_samples=400, **options):
    """Return windows of nothing but beats."""
    return bunch(n_samples, noise=0, distractors=False, **options)


def rows(b, label):
    """Return the windows of a class."""
    return np.flatnonzero(b.target == label)


def beats(b, label):
    """Return all beats of the windows of a class, in one table."""
    return np.concatenate([b.waves[i] for i in rows(b, label)])


def mask(spans, n_timesteps):
    """Return the mask of half-open spans, made sample by sample."""
    out = np.zeros(n_timesteps, dtype=bool)
    for on, off in spans:
        if not np.isnan(on):
            out[max(int(on), 0) : max(int(off), 0)] = True
    return out


def labelled(b, i):
    """Return the position in waves[i] of the labelled beat."""
    (found,) = np.flatnonzero(b.waves[i]["r"] == b.sample[i])
    return found
