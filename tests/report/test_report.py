"""write_report without a browser: what stands in the file, that it is safe and small, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import sys

import numpy as np
import pytest
import wfdb
from sklearn.utils import Bunch

from skecg import ECGClassifier, GradCAM1D, RelevanceAggregator, write_report
from skecg.beats import Beats
from skecg.explain import explain_record
from skecg.report._encode import pack, pack_ecg, row_limits, to_json
from skecg.report._page import palette
from tests.report.made_up import EVIL, FS, hour_of_one_lead, of_record, ten_seconds_of_twelve, trace, windows
from tests.report.pages import read
from tests.tiny import FAST, TinyNet, toy_ecg

pytest.importorskip("bokeh", reason="the report is drawn with bokeh (extra `report`)")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.html"


# ------------------------------------------------------------------------------------------------------- the numbers


def test_arrays_of_the_page_are_the_given_ones_within_half_a_step(path):
    result, ecg = of_record(n_leads=2)
    page = read(write_report(result, path, record=ecg))
    facts = page.facts()
    for lead in range(2):
        for name, given in (
            (facts["ecg"][lead]["array"], ecg[lead]),
            (facts["tracks"][0]["arrays"][lead], result["relevance"][lead]),
        ):
            found, scale = page.array(name)
            assert scale <= np.nanmax(np.abs(given)) / 32000
            np.testing.assert_array_equal(np.isnan(found), np.isnan(given))
            np.testing.assert_allclose(found, given, rtol=0, atol=0.501 * scale)


def test_full_colour_is_the_quantile_that_is_stated(path):
    result, ecg = of_record()
    html = write_report(result, path, record=ecg).read_text()
    full = np.nanquantile(np.abs(result["relevance"]), 0.999)
    assert read(path).facts()["tracks"][0]["vmax"] == pytest.approx(full, rel=1e-3)
    assert f"full colour is {full:.3g}, its 99.9 % quantile" in html


def test_one_wild_value_does_not_blank_the_relevance(path):
    result, ecg = of_record(n_leads=2)
    result["relevance"][0, 100] = 1e6
    html = write_report(result, path, record=ecg).read_text()
    full = np.nanquantile(np.abs(result["relevance"]), 0.999)
    page = read(path)
    assert page.facts()["tracks"][0]["vmax"] == pytest.approx(full, rel=1e-3)
    values, scale = page.array("relevance-0-0")
    assert scale <= full / 327
    assert values[100] == pytest.approx(100 * full, rel=1e-3)
    np.testing.assert_allclose(np.delete(values, 100), np.delete(result["relevance"][0], 100), atol=0.501 * scale)
    assert f" 1 values beyond {100 * full:.3g} are drawn, and told below, as that." in html
    assert "largest 1e+06" in html


def test_integers_keep_gaps_signs_and_steps_of_any_size():
    values = np.array([np.nan, 1, -1, 0.5, np.inf, -np.inf, 0, 1], dtype=np.float32)
    packed = pack(lambda a, b: values[a:b], len(values))
    np.testing.assert_array_equal(packed.values, [-32768, 32767, -32767, 16384, -32768, -32768, 0, 32767])
    np.testing.assert_allclose(packed.decoded()[[1, 2, 6]], [1, -1, 0])
    nothing = pack(lambda a, b: np.zeros(b - a), 5)
    np.testing.assert_array_equal(nothing.decoded(), 0)
    assert np.isnan(pack(lambda a, b: np.full(b - a, np.nan), 5).decoded()).all()


def test_rare_artefacts_do_not_take_the_resolution():
    values = np.sin(np.arange(20_000) / 20)
    values[77] = 5000.0
    packed = pack_ecg(lambda a, b: values[a:b], len(values))
    assert packed.clipped == 1
    assert packed.decoded()[77] == pytest.approx(50)
    np.testing.assert_allclose(np.delete(packed.decoded(), 77), np.delete(values, 77), atol=0.001)
    often = pack_ecg(lambda a, b: 300 * values[a:b], len(values))  # no mV: the whole range counts
    assert often.clipped == 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-0.4, 1.2), (-30.0, 40.0), (7.0, 7.3)])
def test_rows_stand_on_squares_and_hold_the_lead_up_to_a_height(low, high):
    values = np.linspace(low, high, 1000)
    bottom, top, beyond = row_limits(pack_ecg(lambda a, b: values[a:b], 1000))
    assert (bottom * 2) % 1 == 0 == (top * 2) % 1
    assert 2 <= top - bottom <= 6
    assert beyond == (high - low > 6)
    assert beyond or (bottom <= low and high <= top)


def test_colours_are_those_of_the_other_displays():
    from matplotlib.colors import to_hex

    from skecg.plotting._trace import default_map

    for signed in (True, False):
        colours = palette(signed)
        other = default_map(signed)(np.linspace(0, 1, len(colours)))
        assert colours == [to_hex(one) for one in other]


def test_an_hour_of_one_lead_is_small(path):
    result, ecg, beats = hour_of_one_lead()
    assert write_report(result, path, record=ecg, beats=beats).stat().st_size < 15e6


def test_a_map_without_leads_is_kept_once(path):
    result, ecg = of_record(n_leads=3, relevance_kind="cam")
    result["relevance"] = np.broadcast_to(np.abs(result["relevance"][:1]), ecg.shape)
    page = read(write_report(result, path, record=ecg))
    assert len(set(page.facts()["tracks"][0]["arrays"])) == 1
    assert len(page.facts()["arrays"]) == 4
    assert "all leads are coloured alike" in path.read_text()


# ------------------------------------------------------------------------------------------------------ windows, beats


def test_windows_have_class_score_and_a_time_that_meets_the_neighbours(path):
    result, ecg = of_record()
    found = read(write_report(result, path, record=ecg)).facts()
    told = found["tracks"][0]["windows"]
    assert [found["labels"][i] for i in told["label"]] == result["label"].tolist()
    np.testing.assert_allclose(told["score"], result["score"], rtol=1e-4)
    assert told["left"][1:] == told["right"][:-1]
    assert (told["left"][0], told["right"][-1]) == (0, 20)
    size = np.nan_to_num(np.abs(result["relevance"][0]))
    for i, start in enumerate(result["start"]):
        assert told["at"][i] == pytest.approx((start + size[start : start + 720].argmax()) / FS, abs=1e-3)


def test_windows_without_an_answer_are_missing_and_nothing_abnormal(path):
    result, ecg = of_record()
    result["label"][2] = result["target"][2] = ""
    result["score"][2] = np.nan
    found = read(write_report(result, path, record=ecg)).facts()
    assert (found["tracks"][0]["windows"]["label"][2], found["tracks"][0]["windows"]["score"][2]) == (-1, None)
    assert all(event["label"] == "PVC" for event in found["events"])
    assert "missing 1 (" in path.read_text()


def test_jumps_go_to_labelled_beats_and_the_rule_is_told(path):
    result, ecg = of_record()
    _, peaks, wide = trace(7200)
    symbols = np.where(wide, "V", "N")
    beats = {"sample": np.append(peaks, [40, 60]), "symbol": np.append(symbols, ["+", "~"])}  # notes are no beats
    found = read(write_report(result, path, record=ecg, beats=beats)).facts()
    np.testing.assert_allclose([event["time"] for event in found["events"]], peaks[wide] / FS)
    assert found["rule"] in path.read_text()
    assert found["rule"] == f"beats that are labelled other than N ({wide.sum()} of {len(peaks)})"
    pairs = read(write_report(result, path, record=ecg, beats=(peaks, symbols), normal=["V"])).facts()
    np.testing.assert_allclose([event["time"] for event in pairs["events"]], peaks[~wide] / FS)


def test_jumps_go_to_stretches_of_windows_where_beats_have_no_labels(path):
    result, ecg = of_record(labels=("N", "N", "PVC", "PVC", "AFIB"))
    _, peaks, _ = trace(7200)
    for beats in (None, peaks, Beats(peaks, FS), [Beats(peaks, FS)]):
        found = read(write_report(result, path, record=ecg, beats=beats)).facts()
        events = [(event["time"], event["label"]) for event in found["events"]]
        # windows 2, 3, 4, 7, 8, ... of 2 s, one a second: a stretch begins in the middle of its first one
        assert events[:4] == [(3.0, "PVC"), (5.0, "AFIB"), (8.0, "PVC"), (10.0, "AFIB")]
        assert len(found["beats"]["time"]) == (0 if beats is None else len(peaks))


def test_without_n_the_commonest_class_is_passed_over(path):
    result, ecg = of_record(labels=("SB", "AF", "SB"))
    found = read(write_report(result, path, record=ecg)).facts()
    assert found["normal"] == ["SB"]
    assert {event["label"] for event in found["events"]} == {"AF"}
    assert "other than SB, the commonest here" in path.read_text()


def test_a_part_of_a_record_keeps_the_clock_of_the_record(path):
    result, ecg = of_record()
    _, peaks, wide = trace(7200)
    beats = {"sample": peaks, "label": np.where(wide, "PVC", "N")}
    found = read(write_report(result, path, record=ecg, beats=beats, start=5, stop=15)).facts()
    assert (found["begin"], found["end"], found["length"]) == (5, 15, 3600)
    values, scale = read(path).array("ecg-0")
    np.testing.assert_allclose(values, ecg[0, 1800:5400], atol=scale)
    inside = peaks[wide] / FS
    np.testing.assert_allclose([event["time"] for event in found["events"]], inside[(inside >= 5) & (inside < 15)])


def test_windows_of_explain_lie_side_by_side_with_gaps(path):
    result = windows(n=4, n_leads=2)
    found = read(write_report(result, path, fs=FS)).facts()
    assert (found["mode"], found["count"], found["length"]) == ("windows", 4, 4 * 720 + 3 * 72)
    values, scale = read(path).array("ecg-1")
    blocks = np.append(values, np.full(72, np.nan)).reshape(4, 792)
    np.testing.assert_allclose(blocks[:, :720], result["data"][:, 1], atol=scale)
    assert np.isnan(blocks[:, 720:]).all()
    assert [event["time"] for event in found["events"]] == [pytest.approx(792 / FS + 1)]


# ------------------------------------------------------------------------------------------------- explainers, records


def test_a_real_run_over_a_file(tmp_path, path, seeded):
    X, y, _, _ = toy_ecg(60, n_timesteps=360, n_classes=2)
    clf = ECGClassifier(TinyNet, fs=FS, **{**FAST, "max_epochs": 1}).fit(X, y)
    ecg = X[:12].reshape(1, -1)
    wfdb.wrsamp(
        "r1", fs=360, units=["mV"], sig_name=["MLII"], p_signal=ecg.T.astype(np.float64), fmt=["16"],
        write_dir=str(tmp_path),
    )  # fmt: skip
    cam = explain_record(GradCAM1D(clf, method="gradcam"), tmp_path / "r1")
    found = read(write_report({"a": cam, "b": cam}, path, record=tmp_path / "r1"))
    facts = found.facts()
    assert [track["name"] for track in facts["tracks"]] == ["a", "b"]
    assert "<title>Record r1</title>" in path.read_text()
    values, _ = found.array("ecg-0")
    np.testing.assert_allclose(values, ecg[0], atol=0.01)
    several = GradCAM1D(clf).explain(X[:3])
    assert read(write_report(several, path, fs=FS)).facts()["count"] == 3


def test_explainers_of_other_records_are_refused(path):
    one, ecg = of_record()
    other, _ = of_record(name="other")
    longer, _ = of_record(n=9000)
    for second in (other, longer):
        with pytest.raises(ValueError, match="of one record"):
            write_report({"a": one, "b": second}, path, record=ecg)
    few, many = windows(4), windows(5)
    with pytest.raises(ValueError, match="same windows"):
        write_report({"a": few, "b": many}, path, fs=FS)
    changed = Bunch(**{**few, "data": few["data"] + 1})
    with pytest.raises(ValueError, match="same windows: the data of 'b'"):
        write_report({"a": few, "b": changed}, path, fs=FS)
    assert write_report({"a": few, "b": changed}, path, fs=FS, record=few["data"]) == path
    with pytest.raises(ValueError, match="all of explain_record or all of explain"):
        write_report({"a": one, "b": few}, path, record=ecg)


def test_bad_input_is_refused_by_name_and_nothing_is_written(path):
    result, ecg = of_record()
    few = windows(3)
    cases = [
        (TypeError, "results must be", {"results": [result]}),
        (ValueError, "results is empty", {"results": {}}),
        (ValueError, "no result of explain_record", {"results": {"a": 3}}),
        (ValueError, "need record", {"record": None}),
        (ValueError, "7100 samples, the results 7200", {"record": ecg[:, :7100]}),
        (ValueError, "record must be the path", {"record": ["100"]}),
        (ValueError, "fs=250", {"fs": 250.0}),
        (ValueError, "do not belong together", {"record": {"data": ecg, "fs": 500.0}}),
        (ValueError, "leads holds 'V1'", {"leads": "V1"}),
        (ValueError, "lead_names must be 1", {"lead_names": ["I", "II"]}),
        (ValueError, "nothing lies between", {"start": 5, "stop": 5}),
        (ValueError, "start must be", {"start": -1}),
        (ValueError, "signed must be", {"signed": "yes"}),
        (ValueError, "signed=False, but", {"signed": False}),
        (ValueError, "positions of beats", {"beats": np.array([0.5])}),
        (ValueError, "labels came for", {"beats": ([1, 2], ["N"])}),
        (ValueError, "beats are of 250 Hz", {"beats": Beats([10], 250.0)}),
        (ValueError, "beats must hold sample", {"beats": {"r": [1]}}),
        (TypeError, "cohort must be", {"cohort": 3}),
        (ValueError, "path must end in .html", {"path": path.with_suffix(".txt")}),
        (ValueError, "needs the sampling rate", {"results": few, "record": None}),
        (ValueError, "start and stop", {"results": few, "record": None, "fs": FS, "start": 1}),
        (ValueError, "list of as many Beats", {"results": few, "record": None, "fs": FS, "beats": [1, 2]}),
        (ValueError, "relevance_kind of", {"results": Bunch(**{**result, "relevance_kind": "odd"})}),
    ]
    for error, message, change in cases:
        given = {"results": result, "path": path, "record": ecg, **change}
        with pytest.raises(error, match=message):
            write_report(given.pop("results"), given.pop("path"), **given)
    assert list(path.parent.iterdir()) == []


def test_other_files_are_not_replaced_and_former_reports_are(path):
    result, ecg = of_record()
    path.write_text("my notes")
    with pytest.raises(ValueError, match="no report of skecg's"):
        write_report(result, path, record=ecg)
    assert path.read_text() == "my notes"
    path.unlink()
    deeper = path.parent / "new" / "folder" / "report.html"
    assert write_report(result, deeper, record=ecg, title="first") == deeper
    write_report(result, deeper, record=ecg, title="second")
    assert "<title>second</title>" in deeper.read_text()
    assert [one.name for one in deeper.parent.iterdir()] == ["report.html"]


def test_a_failure_while_writing_leaves_the_former_report(path, monkeypatch):
    result, ecg = of_record()
    before = write_report(result, path, record=ecg).read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(result, path, record=ecg, title="second")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


def test_results_are_left_as_they_were(path):
    result, ecg = of_record()
    before = {name: np.array(value, copy=True) for name, value in result.items() if isinstance(value, np.ndarray)}
    recording = ecg.copy()
    write_report(result, path, record=ecg)
    for name, value in before.items():
        np.testing.assert_array_equal(result[name], value)
    np.testing.assert_array_equal(ecg, recording)


def test_without_bokeh_the_message_names_the_extra(path, monkeypatch):
    result, ecg = of_record()
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(ImportError, match=r"pip install skecg\[report\]"):
        write_report(result, path, record=ecg)


# ---------------------------------------------------------------------------------------------------- words and safety


def test_foreign_text_is_never_markup(path):
    result, ecg = of_record(labels=("N", EVIL), lead_names=[EVIL], name=EVIL)
    result["provenance"] = {"explainer": {"class": EVIL}, "versions": {EVIL: EVIL}}
    result["doubts"] = {EVIL: 2}
    beats = {"sample": np.array([5]), "label": [EVIL]}
    skipped = Bunch(aggregator=aggregator(EVIL), skipped=[(EVIL, EVIL)])
    page = read(write_report({EVIL: result}, path, record=ecg, beats=beats, title=EVIL, cohort={EVIL: skipped}))
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed")]
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    plain = windows(1)
    usual = read(write_report(plain, path.with_name("usual.html"), fs=FS))
    scripts = [text for attrs, text in usual.scripts if not attrs]
    assert [text for attrs, text in page.scripts if not attrs] == scripts  # the same code, whatever the data
    assert page.facts()["tracks"][0]["name"] == EVIL
    assert "{{" not in re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL).replace("{{facts}}", "")


def test_policy_lets_only_the_page_s_own_scripts_run(path):
    import hashlib

    result, ecg = of_record()
    page = read(write_report(result, path, record=ecg))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in rules["script-src"]
    code = [text for attrs, text in page.scripts if not attrs]
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code}
    assert set(re.findall(r"'sha256-(.+?)'", rules["script-src"])) == digests
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert {attrs["href"] for tag, attrs in page.tags if "href" in attrs} <= {"data:,", "#viewer"}


def test_json_cannot_end_its_element():
    value = {"a": "</script><!--&", "b": [1.5, None, "\u2028\U0001f493"]}
    text = to_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


def aggregator(label="PVC"):
    rng = np.random.default_rng(0)
    y = np.array(["N", label] * 12)
    R = rng.random((24, 1, 50)) + (y == label)[:, None, None]
    return RelevanceAggregator(by="lead", lead_names=["II"], control="N", n_bootstrap=50, random_state=0).fit(
        R, y, groups=np.arange(24)
    )


def test_cohort_tables_hold_the_summary(path):
    result, ecg = of_record()
    fitted = aggregator()
    cohort = Bunch(aggregator=fitted, skipped=[("r7", "no signal")], n_missing=3, doubts={"all zero": 2})
    html = write_report(result, path, record=ecg, cohort=cohort).read_text()
    frame = fitted.summary()
    for column in ("mean", "low", "high", "p_adjusted"):
        for value in frame[column].dropna():
            assert f'data-value="{value:.12g}"' in html
    assert "<td>r7</td><td>no signal</td>" in html
    assert "3 windows were left out" in html and "In 2 windows all zero." in html
    several = write_report(result, path, record=ecg, cohort={"by lead": fitted, "again": cohort}).read_text()
    assert "<h3>by lead</h3>" in several and "<h3>again</h3>" in several


def test_words_tell_what_the_pictures_show(path):
    result, ecg = ten_seconds_of_twelve()
    result["provenance"] = {"seed": 7}
    html = write_report({"Saliency": result}, path, record=ecg).read_text()
    page = read(path)
    assert "no medical device" in html
    assert "10 s of 12 leads (I, II, III, aVR, aVL, aVF, V1" in html
    lead, sample = np.unravel_index(np.nanargmax(np.abs(result["relevance"])), result["relevance"].shape)
    assert f"It is strongest at 0:00:{sample / 500:05.2f}, lead {page.facts()['tracks'][0]['names'][lead]}" in html
    assert "&quot;seed&quot;: 7" in html
    languages = [attrs.get("lang") for tag, attrs in page.tags if tag == "html"]
    assert languages == ["en"]
    sheets = [attrs for _, attrs in page.tags if attrs.get("class") == "sheet"]
    assert all("Saliency" in attrs["aria-label"] for attrs in sheets) and len(sheets) == 2


def test_large_files_are_announced(path, monkeypatch):
    result, ecg = of_record()
    monkeypatch.setattr("skecg.report._write._LARGE", 1e6)
    with pytest.warns(UserWarning, match="browsers open slowly"):
        write_report(result, path, record=ecg)
