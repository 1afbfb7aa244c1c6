"""What displays of a cohort look at: an aggregator whose statistics are set by hand, and a picture without warnings."""

from __future__ import annotations

import io
import warnings

import numpy as np
from sklearn.utils import Bunch


def make_aggregator(by, columns, *, classes=("AF", "N"), control="N", **attributes):
    """Return an aggregator that was "fitted": statistics are zero, p values 1 but for the control, or as given."""
    shape = len(classes), len(columns)
    p_adjusted = np.ones(shape)
    p_adjusted[[name == control for name in classes]] = np.nan
    statistics = Bunch(
        by=by,
        statistic="mean",
        share=False,
        control=control,
        alternative="two-sided",
        correction="holm",
        classes_=np.array(classes),
        get_feature_names_out=lambda: np.array(columns, dtype=object),
        mean_=np.zeros(shape),
        interval_=np.zeros((*shape, 2)),
        effect_size_=np.zeros(shape),
        p_adjusted_=p_adjusted,
        n_patients_=np.full(shape, 12),
        exclusions_={"shared_patients": np.zeros(len(classes), dtype=int)},
    )
    return Bunch(**{**statistics, **attributes})


def drawn(display):
    """Draw the picture with every warning an error, and return its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = io.BytesIO()
        display.figure_.savefig(buffer, format="raw", dpi=50)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)
