"""RelevanceAggregator: relevance of many records to a table, and to statements about classes with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._docs import fill_doc
from ..utils._validation import check_fs, check_number, check_option, draw_seed
from ._cohort import CohortMixin
from ._rows import Layout, RelevanceRows, check_ids, check_labels
from ._windows import PARTS, check_relevance, check_signal, warn_of, window_sums

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import ArrayLike

_FEWEST_RESAMPLES = 40  # the fewest of which 2.5 % are one
_LEARNED = ("n_leads_", "n_timesteps_", "n_features_in_", "feature_names_in_", "_rows", "_seed", "_formed")


@fill_doc
class RelevanceAggregator(TransformerMixin, CohortMixin, BaseEstimator):
    """Relevance of windows as a table, by record or by lead, and as statistics of the cohort over patients.

    ``transform`` gives each window a row. ``fit`` sums the windows of a record, takes the mean over the records of a
    patient and then over patients, so that a record weighs one in its patient and a patient one in the cohort, and
    keeps one row per record: ``partial_fit`` and ``merge`` unite such rows, so that any number of parts in any order
    gives the same statistics to the bit (with ``record`` and an int as ``random_state``).

    What cannot be averaged is left out and counted, never taken for zero: the zero-padded tail of a window (with
    ``ecg``), windows without any ECG, windows with NaN or infinite relevance, and records that have no relevance to
    share out.

    Parameters
    ----------
    by : "record", "lead", "wave" or "beat", default="record"
        The columns: one for all samples of all leads, or one a lead. "wave" and "beat" need the beats of the ECG
        detected, which this version cannot: ``fit`` raises a ValueError.
    statistic : "mean", "abs_mean", "positive_mean" or "negative_mean", default="mean"
        What is averaged over samples: the signed relevance, its absolute value, or its positive (evidence for the
        class) or negative part (evidence against it), with 0 elsewhere.
    share : bool, default=False
        Divide each column by the total of the absolute values of what ``statistic`` averages, over all leads: with
        "mean", ``sum of the column / sum of abs(R)``, -1 to 1; with the others the columns sum to 1 (or -1). Shares
        are compositional, one lead up forces others down: test them two-sided. Relevance by lead sums to the total,
        so every lead's mean tends to differ once the classes' scores do; shares do not have that fault.
    control : label, default=None
        The class that the others are tested against; None tests nothing.
    alternative : "two-sided", "greater" or "less", default="two-sided"
        Of the tests; "greater": the class is greater than the control.
    correction : "holm" or None, default="holm"
        Correction of the p values over the family of all columns x tested classes of one fit.
    n_bootstrap : int, default=2000
        Resamples of patients for the intervals, at least 40.
    lead_names : sequence of str, default=None
        Names of the leads, for the columns; None calls them lead0, lead1, ...
    fs : float, default=None
        Sampling rate of R, Hz. Not needed by record and by lead.
    %(random_state)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes: sorted labels, or the names of the indicators' columns; ``["all"]`` without labels.
    mean_ : ndarray of shape (n_classes, n_columns)
        Mean over patients.
    interval_ : ndarray of shape (n_classes, n_columns, 2)
        95 % bootstrap interval of the mean over patients, NaN for fewer than 10.
    interval_method_ : ndarray of str, shape (n_classes, n_columns)
        "none" (fewer than 10 patients), "studentized" (10 to 30 [1]_) or "bca" (more than 30, and where resamples of
        fewer do not vary [2]_).
    effect_size_ : ndarray of shape (n_classes, n_columns)
        Cliff's delta against the control [3]_: -1 (every patient below every control) to 1, 0 for no difference. NaN
        for the control, and without one.
    p_value_ : ndarray of shape (n_classes, n_columns)
        Mann-Whitney test [4]_ of the patients against the control's; exact, given the ties [5]_, for small cohorts. A
        patient who is in both cohorts leaves the control.
    p_adjusted_ : ndarray of shape (n_classes, n_columns)
        The same after Holm's correction [6]_.
    n_patients_ : ndarray of shape (n_classes, n_columns)
        Patients with a value.
    n_records_ : ndarray of shape (n_classes, n_columns)
        Records with a value.
    n_control_ : ndarray of shape (n_classes, n_columns)
        Patients of the control that the class was tested against.
    n_windows_ : ndarray of shape (n_classes,)
        Windows used.
    n_zero_ : ndarray of shape (n_classes,)
        Windows used whose relevance is zero throughout (saturated scores, rectified maps). Zero is their mean.
    exclusions_ : dict of str to ndarray of shape (n_classes,)
        What was left out. "non_finite": windows with NaN or infinite relevance; "no_signal": windows whose ECG is
        zero throughout; "padded": time steps of used windows in a zero-padded tail; "zero_total": records without
        relevance to share out; "other_labels": windows of the control that carry other labels too; "shared_patients":
        patients who left the control since they are in the tested class too (the most of any column).
    n_leads_ : int
        Leads of the R of ``fit``.
    n_timesteps_ : int
        Time steps of the R of ``fit``.
    n_features_in_ : int
        ``n_leads_ * n_timesteps_``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where R was a data frame.

    See Also
    --------
    skecg.metrics.relevance_mass_score : Relevance against a truth, where there is one.

    Notes
    -----
    The statistics are formed when they are first looked at. ``share``, ``control``, ``alternative``, ``correction``
    and ``n_bootstrap`` may be changed after ``fit``: the attributes follow.

    For a method that conserves the score, such as integrated gradients, the mean over a record is the explained score
    less the baseline's, divided by the number of samples: it measures completeness and discovers nothing. A class
    activation map has no lead axis: by lead, all its columns are equal, and a warning says so.

    In a pipeline, with ``sklearn.set_config(enable_metadata_routing=True)``, request what the aggregator needs by
    ``.set_fit_request(ecg=True, groups=True, record=True).set_transform_request(ecg=True)``.

    References
    ----------
    .. [1] T. C. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4):371-386,
       2015.
    .. [2] B. Efron, "Better bootstrap confidence intervals", Journal of the American Statistical Association
       82(397):171-185, 1987.
    .. [3] N. Cliff, "Dominance statistics: ordinal analyses to answer ordinal questions", Psychological Bulletin
       114(3):494-509, 1993.
    .. [4] H. B. Mann, D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than
       the other", Annals of Mathematical Statistics 18(1):50-60, 1947.
    .. [5] B. Streitberg, J. Roehmel, "Exact distributions for permutation and rank tests: an introduction to some
       recently published algorithms", Statistical Software Newsletter 12(1):10-17, 1986.
    .. [6] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
       6(2):65-70, 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.relevance import RelevanceAggregator
    >>> R = np.zeros((4, 2, 100), dtype=np.float32)
    >>> R[:2, 1] = 3.0
    >>> R[2:, 0] = 1.0
    >>> aggregator = RelevanceAggregator(by="lead", lead_names=["II", "V1"], random_state=0)
    >>> aggregator.fit_transform(R, ["PVC", "PVC", "N", "N"], groups=[1, 2, 3, 4])
    array([[0., 3.],
           [0., 3.],
           [1., 0.],
           [1., 0.]], dtype=float32)
    >>> aggregator.classes_
    array(['N', 'PVC'], dtype='<U3')
    >>> aggregator.mean_
    array([[1., 0.],
           [0., 3.]])
    """

    def __init__(
        self,
        by: str = "record",
        *,
        statistic: str = "mean",
        share: bool = False,
        control: Any = None,
        alternative: str = "two-sided",
        correction: str | None = "holm",
        n_bootstrap: int = 2000,
        lead_names: Sequence[str] | None = None,
        fs: float | None = None,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.by = by
        self.statistic = statistic
        self.share = share
        self.control = control
        self.alternative = alternative
        self.correction = correction
        self.n_bootstrap = n_bootstrap
        self.lead_names = lead_names
        self.fs = fs
        self.random_state = random_state

    def fit(
        self,
        R: ArrayLike,
        y: ArrayLike | None = None,
        *,
        ecg: ArrayLike | None = None,
        beats: Any = None,
        groups: ArrayLike | None = None,
        record: ArrayLike | None = None,
    ) -> RelevanceAggregator:
        """Sum relevance up to records, from which the statistics of the classes are formed.

        Parameters
        ----------
        R : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            Relevance of windows; two dimensions mean one lead. Windows with NaN or infinities are left out, counted
            and warned about.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels, or indicators: then each label has a cohort, the control's holds the windows with its label alone,
            and windows without a label are in none. None takes all windows for one cohort.
        ecg : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), default=None
            The ECG before filters, mV, with the time steps of R. The samples after its last that is not zero on all
            leads are the zero-padded tail, and left out. None uses all samples.
        beats : object, default=None
            For "wave" and "beat"; by record and by lead it is not read.
        groups : array-like of shape (n_samples,), default=None
            Patient of each window, str or int. None takes each record for a patient.
        record : array-like of shape (n_samples,), default=None
            Record of each window, str or int; all windows of a record belong in one call. None takes each window for
            a record.

        Returns
        -------
        self : RelevanceAggregator
            The fitted aggregator.

        Raises
        ------
        ValueError
            For input of a wrong shape, a control that is no class, and parameters out of their range.
        """
        part = self._part(R, y, ecg, groups, record)
        part._control_position()
        return self._adopt(part)

    def partial_fit(
        self,
        R: ArrayLike,
        y: ArrayLike | None = None,
        *,
        ecg: ArrayLike | None = None,
        beats: Any = None,
        groups: ArrayLike | None = None,
        record: ArrayLike | None = None,
    ) -> RelevanceAggregator:
        """Add further records; parts in any order give the same statistics to the bit.

        Parameters
        ----------
        R : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            Relevance of windows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels or indicators, as in ``fit``; in all parts or in none.
        ecg : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), default=None
            The ECG before filters, mV.
        beats : object, default=None
            Not read by record and by lead.
        groups : array-like of shape (n_samples,), default=None
            Patient of each window; in all parts or in none.
        record : array-like of shape (n_samples,), default=None
            Record of each window; in all parts or in none. Without, windows are numbered as they come, so that the
            order of the parts matters to the resampling.

        Returns
        -------
        self : RelevanceAggregator
            Itself.

        Raises
        ------
        ValueError
            As ``fit``, and for a (patient, record) that is there already; nothing is added then.
        """
        if self.__sklearn_is_fitted__():
            return self._unite(self._part(R, y, ecg, groups, record, fitted=self))
        return self._adopt(self._part(R, y, ecg, groups, record))

    def merge(self, other: RelevanceAggregator) -> RelevanceAggregator:
        """Add the records of another aggregator, which stays as it is.

        Parameters
        ----------
        other : RelevanceAggregator
            Fitted with the same ``by``, ``statistic`` and leads, and with ``record``. An unfitted aggregator may
            merge too: it starts with the records of the other.

        Returns
        -------
        self : RelevanceAggregator
            Itself.

        Raises
        ------
        TypeError
            Where other is no RelevanceAggregator.
        ValueError
            Where a (patient, record) is in both, or the two do not fit together; nothing is added then.
        """
        if not isinstance(other, RelevanceAggregator):
            raise TypeError(f"other must be a RelevanceAggregator; got {type(other).__name__}")
        check_is_fitted(other)
        if not self.__sklearn_is_fitted__():
            if other._rows.layout[:3] != self._kind():
                raise ValueError(
                    f"other was fitted with (by, statistic, lead_names) {other._rows.layout[:3]}, this aggregator has "
                    f"{self._kind()}"
                )
            return self._adopt(other)
        if other._rows.layout.record != "given":
            raise ValueError("merge needs records that have names: pass record to fit and partial_fit")
        mine, its = ((e.n_leads_, e.n_timesteps_) for e in (self, other))
        if mine != its:
            raise ValueError(f"other was fitted with (n_leads, n_timesteps) {its}, this aggregator with {mine}")
        return self._unite(other)

    def transform(self, R: ArrayLike, *, ecg: ArrayLike | None = None, beats: Any = None) -> np.ndarray:
        """Return one row per window.

        Parameters
        ----------
        R : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            Relevance of windows.
        ecg : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), default=None
            The ECG before filters, mV, to leave out zero-padded tails.
        beats : object, default=None
            Not read by record and by lead.

        Returns
        -------
        table : ndarray of shape (n_samples, n_columns), float32, or DataFrame
            NaN for windows with NaN or infinite relevance, without ECG, or without relevance to share out.
        """
        check_is_fitted(self)
        self._check_parameters()
        cube = check_relevance(self, R, reset=False)
        signal = check_signal(self, ecg, cube.shape)
        sums, samples, tallies, _ = window_sums(cube, signal, by=self.by, statistic=self.statistic)
        below = np.broadcast_to(sums[:, -1:], samples.shape) if self.share else samples
        table = np.full(samples.shape, np.nan)
        np.divide(sums[:, :-1], below, out=table, where=(tallies[:, :1] > 0) & (below > 0))
        return table.astype(np.float32)

    def fit_transform(
        self,
        R: ArrayLike,
        y: ArrayLike | None = None,
        *,
        ecg: ArrayLike | None = None,
        beats: Any = None,
        groups: ArrayLike | None = None,
        record: ArrayLike | None = None,
    ) -> np.ndarray:
        """Fit, then return one row per window; ``ecg`` and ``beats`` reach both.

        Parameters
        ----------
        R : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            Relevance of windows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels or indicators.
        ecg : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), default=None
            The ECG before filters, mV, to leave out zero-padded tails.
        beats : object, default=None
            Not read by record and by lead.
        groups : array-like of shape (n_samples,), default=None
            Patient of each window.
        record : array-like of shape (n_samples,), default=None
            Record of each window.

        Returns
        -------
        table : ndarray of shape (n_samples, n_columns), float32, or DataFrame
            What ``transform`` returns.
        """
        fitted = self.fit(R, y, ecg=ecg, beats=beats, groups=groups, record=record)
        return fitted.transform(R, ecg=ecg, beats=beats)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Return the names of the columns: "relevance", or the leads.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Compared with the names of the input's columns; not used otherwise.

        Returns
        -------
        names : ndarray of str objects, shape (n_columns,)
            Names of the columns.
        """
        check_is_fitted(self)
        if input_features is not None:
            OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        if self.by == "record":
            return np.array(["relevance"], dtype=object)
        if self.lead_names is None:
            return np.array([f"lead{i}" for i in range(self.n_leads_)], dtype=object)
        return np.array(self._check_lead_names(), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_rows")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True  # windows with NaN or infinities are left out and counted
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _check_parameters(self) -> None:
        check_option("by", self.by, ("record", "lead", "wave", "beat"))
        if self.by in ("wave", "beat"):
            raise ValueError(
                f"by={self.by!r} needs the beats of the ECG, which this version of skecg cannot detect: use "
                "by='record' or by='lead'"
            )
        check_option("statistic", self.statistic, PARTS)
        check_option("share", self.share, (False, True))
        check_option("alternative", self.alternative, ("two-sided", "greater", "less"))
        check_option("correction", self.correction, ("holm", None))
        check_number("n_bootstrap", self.n_bootstrap, low=_FEWEST_RESAMPLES, integer=True)
        if self.fs is not None:
            check_fs(self.fs, "by wave and by beat")
        if self.share and self.by == "record" and self.statistic != "mean":
            raise ValueError(
                f"by='record' has one column, whose share of {self.statistic} is always 1 or -1: use by='lead', or "
                "statistic='mean' (the balance of positive and negative relevance)"
            )

    def _check_lead_names(self) -> list[str]:
        names = self.lead_names
        right = not isinstance(names, str) and all(isinstance(name, str) for name in names)
        if not right or len(names) != self.n_leads_ or len(set(names)) < len(names):
            raise ValueError(f"lead_names must be {self.n_leads_} different strings, one a lead; got {names!r}")
        return list(names)

    def _part(
        self,
        R: Any,
        y: Any,
        ecg: Any,
        groups: Any,
        record: Any,
        fitted: RelevanceAggregator | None = None,
    ) -> RelevanceAggregator:
        """Return an aggregator that holds these windows alone, so that an error leaves this one as it was."""
        self._check_parameters()
        part = type(self)(**self.get_params(deep=False))
        cube = check_relevance(part if fitted is None else fitted, R, reset=fitted is None)
        n, part.n_leads_ = cube.shape[:2]
        if self.lead_names is not None:
            part._check_lead_names()
        patients, records = check_ids("groups", groups, n), check_ids("record", record, n)
        labels, kind = check_labels(y, n)
        windows = window_sums(cube, check_signal(self, ecg, cube.shape), by=self.by, statistic=self.statistic)
        warn_of(windows, self.by, stacklevel=4)
        given = ("not given" if ids is None else "given" for ids in (groups, record))
        part._rows = RelevanceRows(Layout(*self._kind(), *given, kind), windows.samples.shape[1])
        if records is None:
            first = 0 if fitted is None else fitted._rows.n_windows
            records = range(first, first + n)
        part._rows.add(zip(records if patients is None else patients, records, labels, strict=True), windows)
        return part

    def _kind(self) -> tuple[str, str, tuple]:
        """Return what rows are sums of: the first fields of a Layout."""
        named = self.by == "lead" and self.lead_names is not None
        return self.by, self.statistic, tuple(self.lead_names) if named else ()

    def _adopt(self, other: RelevanceAggregator) -> RelevanceAggregator:
        """Take what the other has learned in place of one's own."""
        self._check_parameters()
        seed = draw_seed(self.random_state)
        learned = {name: vars(other)[name] for name in _LEARNED if name in vars(other)}
        learned.update(_rows=other._rows.copy(), _seed=seed, _formed=None)
        for name in _LEARNED:
            vars(self).pop(name, None)
        vars(self).update(learned)
        return self

    def _unite(self, part: RelevanceAggregator) -> RelevanceAggregator:
        self._rows.unite(part._rows)
        self._formed = None
        return self
