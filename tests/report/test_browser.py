"""The report in headless Chromium: it scrolls, zooms, jumps, is quick, asks for nothing, runs no foreign code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skecg import write_report
from tests.report.browser import chromium, errors, paints, requests, why_not
from tests.report.made_up import EVIL, hour_of_one_lead, of_record, ten_seconds_of_twelve, windows

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "a browser is there")
pytest.importorskip("bokeh", reason="the report is drawn with bokeh (extra `report`)")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def hour(tmp_path_factory) -> Path:
    result, ecg, beats = hour_of_one_lead()
    return write_report(result, tmp_path_factory.mktemp("hour") / "hour.html", record=ecg, beats=beats)


def opened(driver, path):
    """Open a report, and wait until it is drawn."""
    errors(driver), requests(driver)
    driver.get(path.as_uri())
    problem = driver.execute_async_script(
        "const done = arguments[0]; skecgReport.ready.then(() => done(null), (error) => done(String(error)))"
    )
    assert problem is None
    return driver


def shown(driver):
    return driver.execute_script("return skecgReport.range()")


def press(driver, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def settle(driver):
    """Wait for three frames: what was set is drawn."""
    driver.execute_async_script(
        "const done = arguments[0], next = requestAnimationFrame; next(() => next(() => next(done)))"
    )


def test_hour_is_small_and_painted_at_once_without_a_request_or_an_error(driver, hour):
    assert hour.stat().st_size < 15e6
    opened(driver, hour)
    settle(driver)
    times = paints(driver)
    assert 0 < times["first-contentful-paint"] < 3
    asked = requests(driver)
    assert asked[0] == hour.as_uri()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert errors(driver) == []
    assert driver.execute_script("return document.getElementById('loading').hidden")


def test_nothing_could_be_loaded_if_something_tried(driver, hour):
    opened(driver, hour)
    refused = driver.execute_async_script(
        """const done = arguments[0];
        fetch("https://canary.invalid/").then(() => done("answered"), () => {
          const image = new Image();
          image.onload = () => done("loaded"); image.onerror = () => done("refused");
          image.src = "https://canary.invalid/canary.png";
        });"""
    )
    assert refused == "refused"
    assert any("Content Security Policy" in text for text in errors(driver))
    assert {url.partition(":")[0] for url in requests(driver)} <= {"file", "data", "blob"}


def test_keys_scroll_and_zoom(driver, hour):
    from selenium.webdriver.common.keys import Keys

    opened(driver, hour)
    a, b = shown(driver)
    assert a == 0 and 5 < b < 60  # 25 mm/s on a screen
    press(driver, Keys.ARROW_RIGHT)
    np.testing.assert_allclose(shown(driver), [0.25 * b, 1.25 * b])
    press(driver, Keys.ARROW_LEFT)
    np.testing.assert_allclose(shown(driver), [0, b], atol=1e-9)
    press(driver, "-")
    assert np.diff(shown(driver)) == pytest.approx(2 * b)
    press(driver, "+", "+")
    assert np.diff(shown(driver)) == pytest.approx(b / 2)
    press(driver, Keys.END)
    np.testing.assert_allclose(shown(driver), [3600 - b / 2, 3600])
    press(driver, Keys.ARROW_RIGHT)
    assert shown(driver)[1] == pytest.approx(3600)  # no further than the end
    press(driver, Keys.HOME)
    assert shown(driver)[0] == 0
    press(driver, "w")
    np.testing.assert_allclose(shown(driver), [0, 3600])
    press(driver, "0")
    assert np.diff(shown(driver)) == pytest.approx(b, rel=0.01)
    assert errors(driver) == []


def test_wheel_scrolls_and_zooms_where_the_pointer_is(driver, hour):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.action_chains import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    opened(driver, hour)
    sheet = driver.find_element("css selector", ".sheet")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", sheet)
    before, page = shown(driver), driver.execute_script("return window.scrollY")
    origin = ScrollOrigin.from_element(sheet)
    ActionChains(driver).scroll_from_origin(origin, 0, 300).perform()
    settle(driver)
    after = shown(driver)
    assert after[0] > before[0] + 0.5
    assert np.diff(after) == pytest.approx(np.diff(before))
    assert driver.execute_script("return window.scrollY") == page  # the record moved, not the page
    ActionChains(driver).key_down(Keys.CONTROL).scroll_from_origin(origin, 0, -200).key_up(Keys.CONTROL).perform()
    settle(driver)
    near = shown(driver)
    assert np.diff(near) < 0.9 * np.diff(after)
    assert np.mean(near) == pytest.approx(np.mean(after), abs=0.05 * np.diff(after)[0])  # the pointer is in the middle


def test_dragging_moves_the_record_with_the_pointer(driver, hour):
    from selenium.webdriver import ActionChains

    opened(driver, hour)
    driver.execute_script("skecgReport.setRange(100, 110)")
    sheet = driver.find_element("css selector", ".sheet")
    ActionChains(driver).drag_and_drop_by_offset(sheet, -sheet.rect["width"] // 4, 0).perform()
    np.testing.assert_allclose(shown(driver), [102.5, 112.5], atol=0.1)


def test_strip_of_the_whole_record_leads_to_a_place(driver, hour):
    from selenium.webdriver import ActionChains

    opened(driver, hour)
    strip = driver.find_element("css selector", ".strip")
    ActionChains(driver).move_to_element(strip).click().perform()
    assert np.mean(shown(driver)) == pytest.approx(1800, abs=5)


def test_jumps_go_from_abnormal_beat_to_abnormal_beat(driver, hour):
    _, _, beats = hour_of_one_lead()
    odd = beats["sample"][beats["symbol"] == "V"] / 360
    opened(driver, hour)
    driver.execute_script("skecgReport.setRange(1000, 1010)")
    press(driver, "n")
    first = int(np.searchsorted(odd, 1005))
    for i in (first, first + 1):
        assert driver.execute_script("return skecgReport.event().time") == pytest.approx(odd[i])
        assert np.mean(shown(driver)) == pytest.approx(odd[i])
        press(driver, "n")
    press(driver, "p", "p", "p")
    assert np.mean(shown(driver)) == pytest.approx(odd[first - 1])
    said = driver.find_element("id", "said").text
    assert said.startswith("V at ") and said.endswith(f"{first} of {len(odd)}")


def test_the_first_and_the_last_beat_can_be_jumped_to(driver, hour):
    _, _, beats = hour_of_one_lead()
    odd = beats["sample"][beats["symbol"] == "V"] / 360
    opened(driver, hour)
    assert odd[0] < np.mean(shown(driver))  # it is left of the middle, where a jump begins elsewhere
    press(driver, "n")
    assert driver.execute_script("return skecgReport.event().time") == pytest.approx(odd[0])
    opened(driver, hour)
    press(driver, "\ue010", "p")  # End
    assert driver.execute_script("return skecgReport.event().time") == pytest.approx(odd[-1])


def test_drawn_numbers_are_those_of_the_arrays(driver, hour):
    result, ecg, _ = hour_of_one_lead()
    opened(driver, hour)
    for i in (0, 12345, 777_777, ecg.shape[1] - 1):
        volt, relevance = driver.execute_script(f"return skecgReport.sample(0, 0, {i})")
        assert volt == pytest.approx(float(ecg[0, i]), abs=0.001)
        if np.isnan(result["relevance"][0, i]):
            assert relevance is None or np.isnan(relevance)
        else:
            assert relevance == pytest.approx(float(result["relevance"][0, i]), abs=1e-4)


def test_foreign_text_stays_text(driver, tmp_path):
    result, ecg = of_record(labels=("N", EVIL), lead_names=[EVIL], name=EVIL)
    beats = {"sample": np.array([300, 900]), "label": ["N", EVIL]}
    path = write_report({EVIL: result}, tmp_path / "evil.html", record=ecg, beats=beats, title=EVIL)
    opened(driver, path)
    driver.execute_script("document.getElementById('all').open = true; skecgReport.jump(1)")
    settle(driver)
    assert driver.execute_script("return window.canary === undefined")
    assert driver.execute_script("return document.images.length") == 0
    assert driver.find_element("css selector", "h1").text == " ".join(EVIL.split())
    assert driver.title == EVIL
    assert errors(driver) == []


def test_twelve_leads_and_two_explainers_in_a_narrow_page(driver, tmp_path):
    result, ecg = ten_seconds_of_twelve()
    path = write_report({"one": result, "two": result}, tmp_path / "twelve.html", record=ecg)
    opened(driver, path)
    assert len(driver.find_elements("css selector", ".sheet")) == 4  # two halves each
    np.testing.assert_allclose(shown(driver), [0, 10])
    try:
        driver.set_window_size(500, 900)
        settle(driver)
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= driver.execute_script("return window.innerWidth")  # nothing hangs out to the right
    finally:
        driver.set_window_size(1400, 1000)
    assert errors(driver) == []


def test_windows_stand_side_by_side_and_their_table_can_be_read(driver, tmp_path):
    result = windows()
    opened(driver, write_report(result, tmp_path / "windows.html", fs=360.0))
    driver.find_element("css selector", "#all summary").click()
    settle(driver)
    rows = driver.find_elements("css selector", "#windows tbody tr")
    assert len(rows) == len(result["target"])
    driver.find_element("id", "only").click()
    assert len(driver.find_elements("css selector", "#windows tbody tr")) == int((result["target"] != "N").sum())
    rows = driver.find_elements("css selector", "#windows tbody tr")
    assert [cell.text for cell in rows[0].find_elements("css selector", "td")][2] == "PVC"
    assert errors(driver) == []


def test_everything_that_can_be_used_has_a_name_and_is_reached_by_tab(driver, hour):
    opened(driver, hour)
    nameless = driver.execute_script(
        """return [...document.querySelectorAll("button, input, select, [tabindex], [role=img]")].filter((one) =>
        !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length) && !one.closest("[inert]")
        && one.tagName !== "PRE").length"""
    )
    assert nameless == 0
    assert driver.execute_script("return document.documentElement.lang") == "en"
    reached = set()
    for _ in range(25):
        press(driver, "\ue004")  # Tab
        reached.add(driver.execute_script(
            "const one = document.activeElement;"
            "return one.closest('[inert]') ? 'inert' : one.dataset.command || one.className"
        ))  # fmt: skip
    assert {"skip", "next", "previous", "in", "out", "help", "sheet"} <= reached
    assert "inert" not in reached
    press(driver, "?")
    assert driver.execute_script("return document.getElementById('help').open")
    press(driver, "\ue00c")  # Escape
    assert not driver.execute_script("return document.getElementById('help').open")
