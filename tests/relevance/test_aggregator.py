"""RelevanceAggregator in pipelines, under scikit-learn's checks, and given what it must refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as ec
from sklearn.utils.estimator_checks import parametrize_with_checks

from skecg.relevance import RelevanceAggregator
from tests.relevance.made import bits, make_cohort

CHECKED = [
    RelevanceAggregator(random_state=0),
    RelevanceAggregator("lead", random_state=0),
    RelevanceAggregator("lead", statistic="abs_mean", share=True, random_state=0),
]
# Checks that scikit-learn runs on its own estimators but does not hand to others.
EXTRA = [
    ec.check_set_output_transform,
    ec.check_set_output_transform_pandas,
    ec.check_global_output_transform_pandas,
    ec.check_dataframe_column_names_consistency,
    ec.check_transformer_get_feature_names_out,
    ec.check_transformer_get_feature_names_out_pandas,
    ec.check_get_feature_names_out_error,
]


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@parametrize_with_checks(CHECKED)
def test_sklearn(estimator, check, seeded):
    check(estimator)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@pytest.mark.parametrize("check", EXTRA, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", CHECKED, ids=str)
def test_sklearn_extra(estimator, check):
    check(type(estimator).__name__, estimator)


# what transform computes


@pytest.mark.parametrize(
    ("statistic", "part"),
    [
        ("mean", lambda r: r),
        ("abs_mean", np.abs),
        ("positive_mean", lambda r: r * (r > 0)),
        ("negative_mean", lambda r: r * (r < 0)),
    ],
)
def test_means_and_shares_are_those_of_numpy(statistic, part, rng):
    R = rng.normal(0.2, 1, size=(7, 3, 90)).astype(np.float32)
    values = part(R.astype(np.float64))
    by_record = RelevanceAggregator("record", statistic=statistic).fit_transform(R)
    np.testing.assert_allclose(by_record, values.mean(axis=(1, 2))[:, None], rtol=1e-6)
    by_lead = RelevanceAggregator("lead", statistic=statistic).fit_transform(R)
    np.testing.assert_allclose(by_lead, values.mean(axis=2), rtol=1e-6)
    share = RelevanceAggregator("lead", statistic=statistic, share=True).fit_transform(R)
    np.testing.assert_allclose(share, values.sum(axis=2) / np.abs(values).sum(axis=(1, 2))[:, None], rtol=1e-5)
    if statistic != "mean":
        np.testing.assert_allclose(np.abs(share).sum(axis=1), 1, rtol=1e-6)
    assert by_lead.dtype == share.dtype == np.float32


def test_two_dimensions_are_one_lead(rng):
    R = rng.normal(size=(5, 40)).astype(np.float32)
    for by in ("record", "lead"):
        flat, cube = RelevanceAggregator(by), RelevanceAggregator(by)
        np.testing.assert_array_equal(flat.fit_transform(R), cube.fit_transform(R[:, None]))
        np.testing.assert_array_equal(flat.mean_, cube.mean_)
        np.testing.assert_array_equal(flat.transform(R[:, None]), cube.transform(R))


def test_columns_have_the_names_of_the_leads(rng):
    R = rng.normal(size=(4, 2, 30)).astype(np.float32)
    assert RelevanceAggregator().fit(R).get_feature_names_out().tolist() == ["relevance"]
    assert RelevanceAggregator("lead").fit(R).get_feature_names_out().tolist() == ["lead0", "lead1"]
    named = RelevanceAggregator("lead", lead_names=["II", "V1"]).set_output(transform="pandas")
    table = named.fit_transform(R)
    assert isinstance(table, pd.DataFrame)
    assert table.columns.tolist() == ["II", "V1"]
    np.testing.assert_allclose(table["V1"], R[:, 1].mean(axis=1), rtol=1e-5)
    frame = pd.DataFrame(R[:, 0], index=[9, 8, 7, 6])
    assert RelevanceAggregator().set_output(transform="pandas").fit_transform(frame).index.tolist() == [9, 8, 7, 6]


# input that is refused


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"by": "leads"}, "by must be one of 'record', 'lead', 'wave', 'beat'; got 'leads'"),
        ({"statistic": "median"}, "statistic must be one of"),
        ({"share": 1}, "share must be one of False, True; got 1"),
        ({"alternative": "upper"}, "alternative must be one of"),
        ({"correction": "bonferroni"}, "correction must be one of 'holm', None"),
        ({"n_bootstrap": 10}, "n_bootstrap must be an integer at least 40; got 10"),
        ({"fs": 0}, "fs must be a finite number"),
        ({"random_state": "seed"}, "seed"),
        ({"lead_names": ["I"]}, "lead_names must be 2 different strings"),
        ({"lead_names": ["I", "I"]}, "lead_names must be 2 different strings"),
        ({"lead_names": "II"}, "lead_names must be 2 different strings"),
        ({"control": "X"}, r"control must be one of the classes, \['N', 'PVC'\]; got 'X'"),
        ({"share": True, "statistic": "abs_mean", "by": "record"}, "one column, whose share of abs_mean is always"),
    ],
)
def test_parameters_out_of_range(params, message, rng):
    R = rng.normal(size=(4, 2, 30)).astype(np.float32)
    aggregator = RelevanceAggregator(**{"by": "lead", **params})
    with pytest.raises(ValueError, match=message):
        aggregator.fit(R, ["N", "N", "PVC", "PVC"])
    assert not [name for name in vars(aggregator) if name.startswith(("_rows", "n_")) and name != "n_bootstrap"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": ["N"] * 3}, r"y must be one label a window, shape \(4,\).*got shape \(3,\)"),
        ({"y": [0.1, 0.2, 0.3, 0.4]}, "y must hold strings or integers, none of them missing; got 0.1"),
        ({"y": ["N", None, "N", "N"]}, "y must hold strings or integers, none of them missing; got None"),
        ({"y": np.full((4, 2), 2)}, "y with 2 columns must be indicators"),
        ({"y": np.zeros((4, 2, 2))}, r"got shape \(4, 2, 2\)"),
        ({"groups": [1, 2, 3]}, r"groups must be one identifier a window, shape \(4,\); got shape \(3,\)"),
        ({"groups": [1, 2, 3, np.nan]}, "groups must hold strings or integers, none of them missing; got nan"),
        ({"record": [[1]] * 4}, "record must be one identifier a window"),
        ({"y": pd.DataFrame(np.ones((4, 2)), columns=["a", "a"])}, "names of their own"),
    ],
)
def test_labels_and_identifiers_that_will_not_do(given, message, rng):
    R = rng.normal(size=(4, 2, 30)).astype(np.float32)
    aggregator = RelevanceAggregator().fit(R)
    before = bits(aggregator)
    with pytest.raises(ValueError, match=message):
        aggregator.fit(R, **given)
    assert bits(aggregator) == before


def test_a_control_needs_labels(rng):
    with pytest.raises(ValueError, match="control='N' needs labels: pass y"):
        RelevanceAggregator(control="N").fit(rng.normal(size=(4, 30)))


@pytest.mark.parametrize("shape", [(30,), (2, 2, 2, 30), (0, 2, 30), (4, 0, 30), (4, 500, 12)])
def test_relevance_of_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"X|array"):
        RelevanceAggregator().fit(np.zeros(shape, np.float32))


def test_a_second_fit_starts_clean(rng):
    frame = pd.DataFrame(rng.normal(size=(6, 30))).rename(columns=str)
    aggregator = RelevanceAggregator("lead", random_state=0).fit(frame, [0, 1] * 3)
    R, y, given = make_cohort(rng)
    aggregator.fit(R, y, **given)
    assert not hasattr(aggregator, "feature_names_in_")
    assert bits(aggregator) == bits(RelevanceAggregator("lead", random_state=0).fit(R, y, **given))


def test_pickle_clone_and_the_users_arrays(rng):
    R, y, given = make_cohort(rng)
    copies = R.copy(), {name: value.copy() for name, value in given.items()}
    R.flags.writeable = False
    aggregator = RelevanceAggregator("lead", control="N", random_state=0).fit(R, y, **given)
    assert bits(pickle.loads(pickle.dumps(aggregator))) == bits(aggregator)
    assert not hasattr(clone(aggregator), "mean_")
    np.testing.assert_array_equal(R, copies[0])
    for name, value in given.items():
        np.testing.assert_array_equal(value, copies[1][name])


def test_seeds(rng):
    R, y, given = make_cohort(rng)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not move
    fits = [
        RelevanceAggregator(random_state=seed).fit(R, y, **given).interval_
        for seed in (1, 1, 2, np.random.RandomState(1), None)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])
    assert all(np.isfinite(fit[0]).all() for fit in fits)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# pipelines


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _explain(X):
    """Stand in for an explainer: relevance of the shape of X."""
    return X


def _requesting():
    aggregator = RelevanceAggregator("lead", random_state=0)
    return aggregator.set_fit_request(ecg=True, groups=True, record=True).set_transform_request(ecg=True)


def _tailed(rng):
    """Relevance whose class is the sign of lead 0 before the tail, and whose tail drowns it where it is averaged in."""
    n = 60
    y = np.arange(n) % 2
    R = rng.normal(size=(n, 2, 80)).astype(np.float32)
    R[:, 0] += np.where(y, 1, -1)[:, None]
    R[:, :, 60:] = rng.normal(size=(n, 2, 1)) * 1000
    ecg = np.ones((n, 80))
    ecg[:, 60:] = 0
    groups = np.arange(n) // 4
    return R, y, {"ecg": ecg, "groups": groups, "record": np.arange(n) // 2}


@pytest.mark.usefixtures("routing")
def test_routed_fit_transform_and_fit_transform(rng):
    R, y, given = _tailed(rng)
    direct = _requesting().fit(R, y, **given)
    expected = direct.transform(R, ecg=given["ecg"])
    pipeline = make_pipeline(FunctionTransformer(_explain), _requesting())
    np.testing.assert_array_equal(pipeline.fit(R, y, **given).transform(R, ecg=given["ecg"]), expected)
    assert bits(pipeline[-1]) == bits(direct)
    np.testing.assert_array_equal(clone(pipeline).fit_transform(R, y, **given), expected)
    assert not np.allclose(expected, direct.transform(R))
    framed = clone(pipeline)
    framed[-1].set_output(transform="pandas")
    table = framed.fit_transform(R, y, **given)
    assert table.columns.tolist() == ["lead0", "lead1"]


@pytest.mark.usefixtures("routing")
def test_routed_cross_validation(rng):
    R, y, given = _tailed(rng)
    steps = [("explain", FunctionTransformer(_explain)), ("table", _requesting()), ("clf", LogisticRegression())]
    pipeline = Pipeline(steps)
    # scored here and not by cross_validate, whose default scorer hands the steps no metadata in scikit-learn 1.6
    how = {"cv": GroupKFold(3), "scoring": _no_score, "error_score": "raise", "return_indices": True}
    scores = cross_validate(pipeline, R, y, params=given, return_estimator=True, **how)
    for fold, test in zip(scores["estimator"], scores["indices"]["test"], strict=True):
        assert fold.score(R[test], y[test], ecg=given["ecg"][test]) == 1
    assert [fold["table"].n_patients_.tolist() for fold in scores["estimator"]] == [[[10, 10], [10, 10]]] * 3
    with_tails = clone(pipeline).set_params(table=RelevanceAggregator("lead").set_fit_request(groups=True))
    blind = cross_validate(with_tails, R, y, params={"groups": given["groups"]}, cv=GroupKFold(3))
    assert blind["test_score"].mean() < 0.9


def _no_score(estimator, X, y):
    return 0.0


def test_a_pipeline_without_routing(rng):
    R, y, given = _tailed(rng)
    pipeline = Pipeline([("explain", FunctionTransformer(_explain)), ("table", RelevanceAggregator("lead"))])
    table = pipeline.fit_transform(R, y, **{f"table__{name}": value for name, value in given.items()})
    expected = RelevanceAggregator("lead").fit_transform(R, y, **given)
    np.testing.assert_array_equal(table, expected)
