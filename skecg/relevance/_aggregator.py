"""RelevanceAggregator: relevance of many records to a table, and to statements about classes with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._docs import fill_doc
from ..utils._validation import draw_seed
from ._average import beat_sums
from ._beats import beats_of
from ._cohort import CohortMixin
from ._columns import ColumnsMixin
from ._rows import N_KIND, Layout, RelevanceRows, check_ids, check_labels
from ._texts import TEXTS
from ._waves import wave_sums
from ._windows import USED, WindowSums, check_relevance, check_signal, refuse_empty, warn_of, window_sums

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import ArrayLike

_fill = partial(fill_doc, texts=TEXTS)
_LEARNED = ("n_leads_", "n_timesteps_", "n_features_in_", "feature_names_in_", "_rows", "_seed", "_formed")


@fill_doc
class RelevanceAggregator(ColumnsMixin, TransformerMixin, CohortMixin, BaseEstimator):
    """Relevance of windows by record, lead, wave or beat: a table, and statistics of the cohort over patients.

    ``transform`` gives each window a row. ``fit`` sums the windows of a record, takes the mean over the records of a
    patient and then over patients, so that a record weighs one in its patient and a patient one in the cohort, and
    keeps one row per record: ``partial_fit`` and ``merge`` unite such rows, so that any number of parts in any order
    gives the same statistics to the bit (with ``record`` and an int as ``random_state``).

    What cannot be averaged is left out and counted, never taken for zero: the zero padding of a window (with
    ``ecg``), windows without any ECG, windows with NaN or infinite relevance, records that have no relevance to share
    out, failed detections, beats that are cut or unlike the others, and waves that are absent.

    Parameters
    ----------
    by : "record", "lead", "wave" or "beat", default="record"
        The columns: one for all samples of all leads; one a lead; the P waves, QRS complexes, T waves, the rest, and
        the P region of each lead; or the samples of the average beat of each lead, aligned at the R peaks, on R's own
        grid. "wave" and "beat" need ``beats``, or ``ecg`` to find them in, and ``fs``. See Notes.
    statistic : "mean", "abs_mean", "positive_mean" or "negative_mean", default="mean"
        What is averaged over samples: the signed relevance, its absolute value, or its positive (evidence for the
        class) or negative part (evidence against it), with 0 elsewhere.
    share : bool, default=False
        Divide each column by the total of the absolute values of what ``statistic`` averages, over all leads: with
        "mean", ``sum of the column / sum of abs(R)``, -1 to 1; with the others the columns sum to 1 (or -1). By wave
        the total is that of P, QRS, T and rest, the P region stands beside them; by beat that of all beats. Shares
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
        Sampling rate of R, Hz; by wave and by beat it is needed, and must be that of the beats.
    leads : "each" or "together", default="each"
        By wave and by beat: columns for each lead, or for all samples of all leads together.
    beat_window : tuple of float, default=(-0.3, 0.5)
        By beat: where a beat begins and ends, s from the R peak; the nearest samples, both included.
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
    n_beats_ : ndarray of shape (n_classes,)
        Beats used, by wave and by beat.
    columns_ : ndarray of str objects, shape (n_columns,)
        Names of the columns, as ``get_feature_names_out`` returns.
    offsets_ : ndarray of shape (n_offsets,)
        By beat: times of the samples of a beat from its R peak, s.
    mean_ecg_ : ndarray of shape (n_classes, n_columns)
        By beat, where ``ecg`` was given: the average beat of the ECG, mV, each patient weighing one.
    interval_ecg_ : ndarray of shape (n_classes, n_columns, 2)
        Its 95 % bootstrap interval.
    n_zero_ : ndarray of shape (n_classes,)
        Windows used whose relevance is zero throughout (saturated scores, rectified maps). Zero is their mean.
    exclusions_ : dict of str to ndarray of shape (n_classes,)
        What was left out. "non_finite": windows with NaN or infinite relevance; "no_signal": windows whose ECG is
        zero throughout; "padded": time steps of used windows in zero padding; "zero_total": records without
        relevance to share out; "other_labels": windows of the control that carry other labels too; "shared_patients":
        patients who left the control since they are in the tested class too (the most of any column). By wave and by
        beat also "failed": windows whose beats were not found; "no_beat": windows none of whose beats can be used;
        and, of used windows, "atypical": beats unlike the others of their window. By beat "edge_beats": beats partly
        outside the window, or in its padding. By wave, counted over beats x leads, "absent_P", "absent_QRS" (the beat
        is left out of that lead), "absent_T", "undecided_P", and "cut_waves" (waves and P regions partly outside);
        "outside": samples, over all leads, that are of no part.
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
    skecg.beats.find_beats : R peaks of windows.
    skecg.beats.delineate : Limits of their waves.
    skecg.metrics.relevance_mass_score : Relevance against a truth, where there is one.

    Notes
    -----
    By wave, the value of a record is the mean over the samples of all its P waves (QRS complexes, ...) in all typical
    beats; onset and offset belong to the wave; a sample in two waves is of the QRS, else of the P wave. The rest is
    what else lies between 0.35 of the RR interval before the R peak of a used beat and 0.35 of it before the next one.
    Where ``Beats.p_present`` is False, P limits are not used and their samples are rest; where it is None, nobody
    knows: the P wave counts neither as present nor as absent, its samples are of no part. The P region, from 200 to
    30 ms before the QRS, is there whatever the P wave does. By beat, the value of a record is the average over its
    typical beats that lie in the window as a whole, so that fast hearts do not weigh more; beats with other than
    typical shapes are averaged if ``Beats.typical`` says that they are typical, or is None. Tens of windows a patient
    have thousands of columns here: Holm's correction is over all of them, so test few columns or parts instead.

    Give the control as it is: a control that is filtered by what the network predicted (true negatives only) while the
    class is not differs from the class by selection alone.

    The statistics are formed when they are first looked at. ``share``, ``control``, ``alternative``, ``correction``
    and ``n_bootstrap`` may be changed after ``fit``: the attributes follow.

    For a method that conserves the score, such as integrated gradients, the mean over a record is the explained score
    less the baseline's, divided by the number of samples: it measures completeness and discovers nothing. A class
    activation map has no lead axis: by lead, all its columns are equal, and a warning says so.

    In a pipeline, with ``sklearn.set_config(enable_metadata_routing=True)``, request what the aggregator needs by
    ``.set_fit_request(ecg=True, groups=True, record=True).set_transform_request(ecg=True)``, and ``beats=True`` in both
    where they are given.

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
        leads: str = "each",
        beat_window: tuple[float, float] = (-0.3, 0.5),
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
        self.leads = leads
        self.beat_window = beat_window
        self.random_state = random_state

    @_fill
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
        %(R)s
        %(y)s
        %(ecg)s
        %(beats)s
        %(groups)s
        %(record)s

        Returns
        -------
        self : RelevanceAggregator
            The fitted aggregator.

        Raises
        ------
        ValueError
            For input of a wrong shape, windows of which none can be used, beats of another grid or sampling rate, a
            control that is no class, and parameters out of their range.

        Warns
        -----
        UserWarning
            Where more than half of the windows are left out, with the counts and reasons; for windows that are not
            finite; and where the relevance of all leads is equal and columns are leads.
        """
        part = self._part(R, y, ecg, beats, groups, record, whole=True)
        part._control_position()
        return self._adopt(part)

    @_fill
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
        %(R)s
        %(y)s
        %(ecg)s
        %(beats)s
        %(groups)s
        %(record)s

        Returns
        -------
        self : RelevanceAggregator
            Itself.

        Raises
        ------
        ValueError
            As ``fit``, and for a (patient, record) that is there already; nothing is added then.
        TypeError
            For beats that are no Beats.
        """
        if self.__sklearn_is_fitted__():
            return self._unite(self._part(R, y, ecg, beats, groups, record, fitted=self))
        return self._adopt(self._part(R, y, ecg, beats, groups, record))

    def merge(self, other: RelevanceAggregator) -> RelevanceAggregator:
        """Add the records of another aggregator, which stays as it is.

        Parameters
        ----------
        other : RelevanceAggregator
            Fitted with the same ``by``, ``statistic``, leads and beats, and with ``record``. An unfitted aggregator may
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
            self._check_parameters()
            if other._rows.layout[:N_KIND] != self._kind():
                raise ValueError(
                    f"other was fitted with {Layout._fields[:N_KIND]} {other._rows.layout[:N_KIND]}, this aggregator "
                    f"has {self._kind()}"
                )
            return self._adopt(other)
        if other._rows.layout.record != "given":
            raise ValueError("merge needs records that have names: pass record to fit and partial_fit")
        mine, its = ((e.n_leads_, e.n_timesteps_) for e in (self, other))
        if mine != its:
            raise ValueError(f"other was fitted with (n_leads, n_timesteps) {its}, this aggregator with {mine}")
        return self._unite(other)

    @_fill
    def transform(self, R: ArrayLike, *, ecg: ArrayLike | None = None, beats: Any = None) -> np.ndarray:
        """Return one row per window.

        Parameters
        ----------
        %(R)s
        %(ecg)s
        %(beats)s

        Returns
        -------
        table : ndarray of shape (n_samples, n_columns), float32, or DataFrame
            NaN for windows with NaN or infinite relevance, without ECG, without beats, or without relevance to share
            out, and for waves that a window does not have.
        """
        check_is_fitted(self)
        self._check_parameters()
        windows = self._sums(check_relevance(self, R, reset=False), ecg, beats)
        sums = windows.sums[:, :-1]
        below = windows.sums[:, -1:] if self.share else windows.samples
        table = np.full(sums.shape, np.nan)
        some = (windows.tallies[:, USED, None] > 0) & (windows.samples > 0) & (below > 0)
        np.divide(sums, below, out=table, where=np.broadcast_to(some, sums.shape))
        return table.astype(np.float32)

    @_fill
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
        %(R)s
        %(y)s
        %(ecg)s
        %(beats)s
        %(groups)s
        %(record)s

        Returns
        -------
        table : ndarray of shape (n_samples, n_columns), float32, or DataFrame
            What ``transform`` returns.
        """
        fitted = self.fit(R, y, ecg=ecg, beats=beats, groups=groups, record=record)
        return fitted.transform(R, ecg=ecg, beats=beats)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_rows")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True  # windows with NaN or infinities are left out and counted
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _part(
        self,
        R: Any,
        y: Any,
        ecg: Any,
        beats: Any,
        groups: Any,
        record: Any,
        fitted: RelevanceAggregator | None = None,
        whole: bool = False,
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
        windows = self._sums(cube, ecg, beats)
        if whole:
            refuse_empty(windows, self.by)
        warn_of(windows, self.by, self.leads, whole=whole, stacklevel=4)
        told = ["not given" if given is None else "given" for given in (groups, record, ecg)]
        layout = Layout(*self._kind(), *told[:2], kind, told[2] if self.by == "beat" else "")
        part._rows = RelevanceRows(layout, windows.sums.shape[1] - 1, windows.samples.shape[1])
        if records is None:
            first = 0 if fitted is None else fitted._rows.n_windows
            records = range(first, first + n)
        part._rows.add(zip(records if patients is None else patients, records, labels, strict=True), windows)
        return part

    def _sums(self, cube: np.ndarray, ecg: Any, beats: Any) -> WindowSums:
        """Sum windows to the columns."""
        signal = check_signal(self, ecg, cube.shape)
        if not self._has_beats():
            return window_sums(cube, signal, by=self.by, statistic=self.statistic)
        self._check_beat_length(cube.shape[2])
        if self.by == "beat" and signal is not None and signal.shape != cube.shape:
            raise ValueError(
                f"by='beat' averages the ecg beside the relevance: it must have its {cube.shape[1]} leads; got "
                f"{signal.shape[1]}"
            )
        beats = beats_of(beats, signal, cube.shape, by=self.by, fs=float(self.fs))
        how = {"statistic": self.statistic, "together": self.leads == "together"}
        if self.by == "wave":
            return wave_sums(cube, signal, beats, **how)
        return beat_sums(cube, signal, beats, offsets=self._offsets(), **how)

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
