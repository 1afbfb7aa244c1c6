"""Lead names, order and derivation by hand; the guards of units and order on made and on real 12-lead ECG."""

import os
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.preprocessing import LeadArranger
from skecg.utils._leads import (
    STANDARD_LEADS,
    arrange_leads,
    canonical_name,
    check_lead_order,
    check_units,
    to_millivolts,
)

REAL = Path(os.environ.get("SKECG_DATA", "nowhere"))
LIMB = STANDARD_LEADS[:6]


def twelve(n=4, n_timesteps=2000, seed=0):
    """Return ECG-like leads (n, 12, n_timesteps), mV, whose limb leads obey Einthoven's law, written out here."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_timesteps) / 250
    shapes = ((0.15, 0.02), (0.3, 0.012), (0.32, 0.015), (0.55, 0.05))
    waves = np.stack([np.exp(-0.5 * (((t % 0.8) - at) / width) ** 2) for at, width in shapes])
    size = rng.uniform(-1, 1, (n, 8, 4)) * [0.15, 1.0, 0.6, 0.3]
    size[:, :, 1] += np.sign(size[:, :, 1]) * 0.3
    free = size @ waves + 0.003 * rng.normal(size=(n, 8, n_timesteps))
    one, two, chest = free[:, :1], free[:, 1:2], free[:, 2:]
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([*limb, chest], axis=1).astype(np.float32)


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("AVR", "aVR"), ("avl", "aVL"), ("aVF", "aVF"), ("i", "I"), (" II ", "II"), ("iii", "III"), ("DI", "I"),
        ("DII", "II"), ("diii", "III"), ("v1", "V1"), ("V6", "V6"), ("Lead II", "II"), ("lead_V2", "V2"),
        ("MLII", "MLII"), ("V7", "V7"), ("ECG ", "ECG"), ("V", "V"), ("lead", "lead"),
    ],
)  # fmt: skip
def test_names(name, canonical):
    assert canonical_name(name) == canonical


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("MLII", "II"), ("ML2", "II"), ("mli", "I"), ("MLIII", "III"), ("MCL1", "V1"), ("MV5", "V5"), ("V1", "V1"),
     ("MLIV", "MLIV"), ("CM5", "CM5")],
)  # fmt: skip
def test_names_of_modified_leads(name, canonical):
    assert canonical_name(name, modified=True) == canonical


@given(st.text(max_size=8))
def test_names_are_stable(name):
    assert canonical_name(canonical_name(name)) == canonical_name(name)


@pytest.mark.parametrize("name", [None, 2, b"II"])
def test_what_is_no_name(name):
    with pytest.raises(TypeError, match="the name of a lead must be a string; got"):
        canonical_name(name)


# -------------------------------------------------------------------------------------------------------------- order


def test_order_by_name_and_no_copy_where_nothing_is_to_be_done():
    X = twelve()
    same, info = arrange_leads(X, [name.upper() for name in STANDARD_LEADS])
    assert np.shares_memory(same, X) and same.shape == X.shape
    assert (info.lead_names, info.derived, info.missing) == (list(STANDARD_LEADS), [], [])
    order = np.random.default_rng(1).permutation(12)
    mixed, _ = arrange_leads(X[:, order], [STANDARD_LEADS[i].lower() for i in order])
    np.testing.assert_array_equal(mixed, X)
    two, info = arrange_leads(X[0], STANDARD_LEADS, ["V5", "avr"])
    np.testing.assert_array_equal(two, X[0][[10, 3]])
    assert info.lead_names == ["V5", "aVR"]


@pytest.mark.parametrize("pair", list(combinations(LIMB, 2)))
def test_any_two_limb_leads_give_the_others(pair):
    X = twelve().astype(np.float64)
    rows = [STANDARD_LEADS.index(name) for name in pair]
    made, info = arrange_leads(X[:, rows], pair, LIMB)
    np.testing.assert_allclose(made, X[:, :6], atol=1e-6)
    assert info.derived == [name for name in LIMB if name not in pair]
    assert made.dtype == np.float64


def test_derived_leads_by_hand():
    made, _ = arrange_leads([[1.0, 2.0], [4.0, 2.0]], ["II", "I"], LIMB)
    np.testing.assert_allclose(made, [[4, 2], [1, 2], [-3, 0], [-2.5, -2], [3.5, 1], [-1, 1]])


def test_missing_leads():
    X = np.ones((2, 2, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=r"no lead III, V1 among II, V2 and no two limb leads to derive it from; miss"):
        arrange_leads(X, ["II", "V2"], ["II", "III", "V1"])
    with pytest.raises(ValueError, match="no lead III among I, II; missing="):
        arrange_leads(X, ["I", "II"], ["III"], derive=False)
    zero, info = arrange_leads(X, ["II", "V2"], ["II", "V1", "V2"], missing="zero")
    np.testing.assert_array_equal(zero[:, :, 0], [[1, 0, 1]] * 2)
    assert info.missing == ["V1"] and info.lead_names == ["II", "V1", "V2"]
    nan, _ = arrange_leads(X, ["II", "V2"], ["II", "V1"], missing="nan")
    assert np.isnan(nan[:, 1]).all() and not np.isnan(nan[:, 0]).any()
    drop, info = arrange_leads(X, ["II", "V2"], ["V1", "II"], missing="drop")
    assert drop.shape == (2, 1, 5) and info.lead_names == ["II"] and info.missing == ["V1"]
    with pytest.raises(ValueError, match="none of the leads V1, V3 is among II, V2"):
        arrange_leads(X, ["II", "V2"], ["V1", "V3"], missing="drop")


def test_modified_leads_count_on_request():
    X = np.stack([np.ones(4), np.zeros(4)])
    with pytest.raises(ValueError, match="no lead II among MLII, V1"):
        arrange_leads(X, ["MLII", "V1"], ["II"])
    np.testing.assert_array_equal(arrange_leads(X, ["MLII", "V1"], ["II"], modified=True)[0], X[:1])


def test_names_that_stand_twice():
    X = np.ones((2, 5))
    with pytest.raises(ValueError, match="lead_names has II more than once"):
        arrange_leads(X, ["II", "DII"], ["II"])
    with pytest.raises(ValueError, match="order has V1 more than once"):
        arrange_leads(X, ["II", "V1"], ["V1", "v1"])
    three = np.ones((3, 5))  # two that nobody asks for
    assert arrange_leads(three, ["ECG", "II", "ECG"], ["II"])[0].shape == (1, 5)


@pytest.mark.parametrize(
    ("data", "names", "error", "message"),
    [
        (np.ones((3, 5)), ["I", "II"], ValueError, r"\(3, 5\) has 3 leads, but lead_names has 2: I, II"),
        (np.ones((3, 5)), ["II"], ValueError, r"windows of one lead: pass data\[:, None\]"),
        (np.ones((2, 5)), "I,II", ValueError, "lead_names must be a list of names"),
        (np.ones((2, 5)), [], ValueError, "lead_names must name at least one lead"),
        (np.ones(5), ["I"], ValueError, r"got shape \(5,\)"),
        (np.ones((2, 0)), ["I", "II"], ValueError, r"got shape \(2, 0\)"),
        (np.ones((2, 5), dtype=complex), ["I", "II"], ValueError, "real numbers; got dtype complex128"),
        (np.array([[None] * 5] * 2), ["I", "II"], TypeError, "must be numeric"),
        (np.ones((2, 5)), ["I", 2], TypeError, "the name of a lead must be a string; got 2"),
    ],
)
def test_bad_data_and_names_are_named(data, names, error, message):
    for function in (arrange_leads, check_lead_order):
        with pytest.raises(error, match=message):
            function(data, names)


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(STANDARD_LEADS), n=st.integers(2, 12))
def test_there_and_back(order, n):
    X = twelve(1, 50)
    some, info = arrange_leads(X, STANDARD_LEADS, order[:n])
    again, _ = arrange_leads(some, info.lead_names, [name for name in STANDARD_LEADS if name in order[:n]])
    np.testing.assert_array_equal(again, X[:, [i for i, name in enumerate(STANDARD_LEADS) if name in order[:n]]])


# -------------------------------------------------------------------------------------------------------------- units


def test_millivolts():
    X = np.array([[1, 2, -3]], dtype=np.float32)
    for unit, factor in (("V", 1000), ("mV", 1), ("uV", 0.001), ("µV", 0.001)):
        result = to_millivolts(X, unit=unit)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, X * factor, rtol=1e-6)
    digital = np.array([[1024, 1224], [0, 500]], dtype=np.int16)
    made = to_millivolts(digital, gain=[200, 1000], baseline=[1024, 0])
    np.testing.assert_allclose(made, [[0, 1], [0, 0.5]])
    np.testing.assert_allclose(to_millivolts(digital, gain=2, baseline=24, unit="uV"), (digital - 24) / 2000)
    far = np.array([[100000, 100001]], dtype=np.int32)  # the difference lies beyond float16, not beyond float32
    np.testing.assert_allclose(to_millivolts(far, gain=1, baseline=100000), [[0, 1]])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"unit": "kV"}, "unit must be one of 'V', 'mV', 'uV', 'µV'; got 'kV'"),
        ({"gain": 0}, "gain must be finite and not 0; got 0"),
        ({"gain": [200, np.nan]}, "gain must be finite"),
        ({"gain": [1, 2, 3]}, "gain must be a number or one for each of 2 leads"),
        ({"gain": 1, "baseline": np.inf}, "baseline must be finite; got inf"),
    ],
)
def test_bad_gains_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        to_millivolts(np.ones((2, 3)), **kwargs)


@pytest.mark.parametrize(
    ("factor", "kind", "message"),
    [
        (1e-3, "V", r"4 of 4 recordings look like V, not mV .*: multiply by 1000"),
        (1e3, "uV", r"4 of 4 recordings look like uV, not mV .*: divide by 1000"),
        (0.03, "low", "4 of 4 recordings are too small for an ECG in mV"),
        (25, "high", "4 of 4 recordings are too large for an ECG in mV"),
    ],
)
def test_units_are_told_by_amplitude(factor, kind, message):
    with pytest.warns(UserWarning, match=message):
        result = check_units(twelve() * factor)
    assert result.looks_like.tolist() == [kind] * 4


def test_millivolts_are_silent_and_measured_by_hand():
    X = np.zeros((1, 3, 1000))
    X[0, 0] = np.linspace(0, 1, 1000)
    X[0, 1] = np.linspace(0, 3, 1000)  # the third lead is flat and does not count
    X[0, 1, 7] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = check_units(X)
        assert check_units(np.zeros((2, 3, 50))).looks_like.tolist() == ["flat", "flat"]
        assert check_units(twelve()).looks_like.tolist() == ["mV"] * 4
    np.testing.assert_allclose(result.amplitude, (0.99 + 2.97) / 2, rtol=0.01)


def test_units_with_nan_and_a_lead_of_nan():
    X = twelve()
    X[0, 0] = np.nan
    X[1, :, :100] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_units(X).looks_like.tolist() == ["mV"] * 4


# -------------------------------------------------------------------------------------------------------------- order


def test_true_names_are_silent_whatever_the_unit_the_offset_and_what_is_missing():
    X = twelve()
    gaps = X.copy()
    gaps[:, 3, 100:200] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (X, X * 1e-6, X + np.arange(12)[:, None] * 10, gaps, X[0], np.zeros_like(X)):
            assert check_lead_order(data, STANDARD_LEADS).agrees.all()
        assert check_lead_order(X[:, :2], ["I", "II"]).agrees.all()  # nothing to check
        assert check_lead_order(X[:, 6:], STANDARD_LEADS[6:]).agrees.all()
        some = [0, 2, 4, 5]
        assert check_lead_order(X[:, some], [STANDARD_LEADS[i] for i in some]).agrees.all()


@pytest.mark.parametrize(("a", "b"), list(combinations(LIMB, 2)))
def test_two_swapped_limb_leads_are_named(a, b):
    names = [{a: b, b: a}.get(name, name) for name in STANDARD_LEADS]
    with pytest.warns(UserWarning, match=f"4 of 4 recordings break Einthoven's law: {a} and {b} look swapped$"):
        result = check_lead_order(twelve(), names)
    assert not result.agrees.any() and (result.error > 0.05).all()


@pytest.mark.parametrize("lead", LIMB)
def test_an_inverted_a_noisy_and_a_flat_lead_are_named(lead, rng):
    X, row = twelve(), STANDARD_LEADS.index(lead)
    for change, message in (
        (-X[:, row], f"{lead} looks inverted"),
        (0.3 * rng.normal(size=X[:, row].shape), f"{lead} disagrees with the other limb leads"),
        (np.zeros_like(X[:, row]), f"{lead} is flat"),
    ):
        spoiled = X.copy()
        spoiled[:, row] = change
        with pytest.warns(UserWarning, match=message):
            assert not check_lead_order(spoiled, STANDARD_LEADS).agrees.any()


def test_the_order_of_cabrera_and_a_chest_lead_among_the_limb_leads():
    X = twelve()
    cabrera = ["aVL", "I", "aVR", "II", "aVF", "III"]
    X_cabrera = X[:, [STANDARD_LEADS.index(name) for name in [*cabrera, *STANDARD_LEADS[6:]]]]
    fits = r"lead_names=\['aVL', 'I', 'aVR', 'II', 'aVF', 'III', 'V1', .* would fit"
    with pytest.warns(UserWarning, match=f"{fits}$"):
        check_lead_order(X_cabrera, STANDARD_LEADS)
    X_cabrera[:, 2] *= -1  # as it is drawn
    with pytest.warns(UserWarning, match=f"{fits}, and aVR looks inverted$"):
        check_lead_order(X_cabrera, STANDARD_LEADS)
    names = [{"III": "V1", "V1": "III"}.get(name, name) for name in STANDARD_LEADS]
    with pytest.warns(UserWarning, match="what is called V1 looks like III"):
        check_lead_order(X, names)


def test_gains_of_its_own_for_each_lead_are_told_from_a_wrong_order():
    X = twelve()
    stretched = X / np.ptp(X, axis=-1, keepdims=True)
    with pytest.warns(UserWarning, match=r"each lead has a gain of its own \(the order is right\)"):
        check_lead_order(stretched, STANDARD_LEADS)
    names = [{"aVL": "aVF", "aVF": "aVL"}.get(name, name) for name in STANDARD_LEADS]
    with pytest.warns(UserWarning, match="aVL and aVF look swapped"):
        check_lead_order(stretched, names)


def test_three_limb_leads_that_disagree_and_recordings_of_which_some_do():
    X = twelve()
    with pytest.warns(UserWarning, match="4 of 4 recordings .*: I, II and III disagree"):
        check_lead_order(X[:, [0, 2, 1]], ["I", "II", "III"])
    X[1, 4], X[3] = -X[1, 4], 0
    with pytest.warns(UserWarning, match="1 of 4 recordings break Einthoven's law: aVL looks inverted"):
        result = check_lead_order(X, STANDARD_LEADS)
    assert result.agrees.tolist() == [True, False, True, True]
    assert result.problem == ["", "aVL looks inverted", "", ""]


def test_unrelated_leads_fit_no_order(rng):
    with pytest.warns(UserWarning, match="I, II, III, aVR, aVL and aVF disagree, and no order of the leads fits"):
        check_lead_order(rng.normal(size=(1, 6, 1000)), LIMB)
    with pytest.raises(ValueError, match="lead_names has I more than once"):
        check_lead_order(np.ones((3, 5)), ["I", "DI", "II"])


# --------------------------------------------------------------------------------------------------------- real records


def real_records(database, n_most):
    """Yield (names, ECG in mV) of records that lie in the data home, read by wfdb alone."""
    wfdb = pytest.importorskip("wfdb")
    headers = sorted((REAL / database).rglob("*.hea"))
    if not headers:
        pytest.skip(f"{database} is not in SKECG_DATA")
    for header in headers[:: max(1, len(headers) // n_most)]:
        record = wfdb.rdrecord(str(header.with_suffix("")))
        yield record.sig_name, record.p_signal.T.astype(np.float32)


@pytest.mark.parametrize("database", ["ptbxl", "cpsc2018", "cpsc2018_extra"])
def test_no_false_alarm_on_real_records_and_every_swap_found(database):
    for names, ecg in real_records(database, 60):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_units(ecg)
            check_lead_order(ecg, names)
        swapped = [{"AVL": "AVF", "AVF": "AVL"}.get(name.upper(), name) for name in names]
        assert quietly(check_lead_order, ecg, swapped).problem == ["aVL and aVF look swapped"]
        for factor, kind in ((1e-3, "V"), (1e3, "uV")):
            assert quietly(check_units, ecg * np.float32(factor)).looks_like == [kind]


def test_ludb_stretches_each_lead_to_one_millivolt():
    for names, ecg in real_records("ludb", 60):
        np.testing.assert_allclose(np.ptp(ecg, axis=-1), 1, atol=0.01)
        (problem,) = quietly(check_lead_order, ecg, names).problem
        assert problem.startswith("each lead has a gain of its own (the order is right)")


# -------------------------------------------------------------------------------------------------------- transformer


def test_arranger_is_the_function_as_a_step():
    X = twelve()
    order = np.random.default_rng(1).permutation(12)
    arranger = LeadArranger([STANDARD_LEADS[i].lower() for i in order], unit="uV")
    result = arranger.fit_transform(1000 * X[:, order])
    np.testing.assert_allclose(result, X, rtol=1e-5, atol=1e-7)
    assert result.dtype == np.float32
    assert arranger.lead_names_out_ == list(STANDARD_LEADS) and arranger.derived_ == arranger.missing_ == []
    two = LeadArranger(["II", "I"], order=LIMB).fit(X[:, [1, 0]])
    np.testing.assert_allclose(two.transform(X[:, [1, 0]]), X[:, :6], atol=1e-6)
    assert two.derived_ == list(LIMB[2:])
    assert len(two.get_feature_names_out()) == 6 * X.shape[-1]


def test_arranger_takes_and_gives_two_dimensions():
    X = twelve()[:, 1]
    one = LeadArranger(["DII"], order=["II"]).fit_transform(X)
    np.testing.assert_array_equal(one, X)
    more = LeadArranger(["II"], order=["II", "V1"], missing="zero").fit_transform(X)
    assert more.shape == (4, 2, X.shape[1]) and not more[:, 1].any()
    assert LeadArranger(list(LIMB), order=["aVR"]).fit_transform(twelve()[:, :6]).shape == (4, 1, X.shape[1])


def test_arranger_warns_of_units_and_of_order_unless_told_not_to():
    X = twelve()
    with pytest.warns(UserWarning, match="look like uV"):
        LeadArranger(STANDARD_LEADS).fit_transform(1000 * X)
    wrong = ["II", "I", *STANDARD_LEADS[2:]]
    with pytest.warns(UserWarning, match="I and II look swapped"):
        LeadArranger(wrong).fit_transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeadArranger(wrong, check=False).fit_transform(1000 * X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "LeadArranger needs the names of the leads of X: pass lead_names"),
        ({"lead_names": ["I", "II"]}, "has 1 leads, but lead_names has 2"),
        ({"lead_names": ["II"]}, "no lead I, III, aVR, aVL, aVF, V1, .* among II"),
        ({"lead_names": ["II"], "missing": "nan"}, "missing must be one of 'raise', 'zero', 'drop'; got 'nan'"),
        ({"lead_names": ["II"], "unit": "v"}, "unit must be one of"),
        ({"lead_names": ["II"], "check": "yes"}, "check must be one of True, False"),
    ],
)
def test_arranger_names_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        LeadArranger(**params).fit(np.ones((3, 1, 50)))
