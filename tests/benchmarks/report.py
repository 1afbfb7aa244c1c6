"""Row S18: what the page of a report costs, drawn by bokeh, plotly and uPlot over the same data."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tests.report.browser import chromium, paints, why_not
from tests.report.made_up import hour_of_one_lead, of_record, ten_seconds_of_twelve

from .harness import Line, Skipped, row

_WIDTH, _HEIGHT = 1400, 1000
_ROW = 150  # px of a lead of the candidates' bare pages
# The same for every candidate: leads of 16-bit integers in, extremes of each column out.
_COMMON = """
const W = 1360, bytes = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
const all = new Int16Array(bytes.buffer), facts = JSON.parse(document.getElementById("facts").textContent);
const leads = Array.from({length: facts.leads}, (_, k) => all.subarray(k * facts.n, (k + 1) * facts.n));
function slice(lead, from, to) {
  const a = Math.max(0, Math.floor(from * facts.fs)), b = Math.min(facts.n, Math.ceil(to * facts.fs));
  const per = Math.max(1, (b - a) / W), x = [], y = [];
  if (per <= 2) { for (let i = a; i < b; i++) { x.push(i / facts.fs); y.push(lead[i] / 1000); } return [x, y]; }
  for (let c = 0; c < W; c++) {
    let low = 32767, high = -32768;
    for (let i = Math.floor(a + c * per), e = Math.min(b, Math.floor(a + (c + 1) * per)); i < e; i++) {
      if (lead[i] < low) low = lead[i];
      if (lead[i] > high) high = lead[i];
    }
    x.push((a + (c + .25) * per) / facts.fs, (a + (c + .75) * per) / facts.fs); y.push(low / 1000, high / 1000);
  }
  return [x, y];
}
"""
# Time from one change of the range to the frame after the one in which it was drawn, ms: median and 95 %.
_FRAMES = """
const done = arguments[arguments.length - 1], [set, begin, end, n] = [arguments[0], ...arguments[1]];
(async () => {
  const all = end - begin, view = Math.min(14, all / 2), show = new Function("a", "b", set), out = {};
  const plans = {
    scroll: (i) => { const a = begin + i / n * (all - view); return [a, a + view]; },
    zoom: (i) => {
      const s = view * Math.pow(all / view, i / n), a = begin + (all - s) / 3;
      return [a, a + s];
    },
  };
  for (const name in plans) {
    const times = [];
    for (let i = 0; i <= n; i++) {
      const before = performance.now();
      await show(...plans[name](i));
      await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
      times.push(performance.now() - before);
    }
    times.sort((a, b) => a - b);
    out[name] = [times[times.length >> 1], times[Math.floor(times.length * 0.95)]];
  }
  done(out);
})();
"""

_BOKEH = """
const sources = [], ranges = [];
window.ready = Promise.all(leads.map((lead, k) => {
  const range = new Bokeh.Range1d({start: 0, end: 14}); ranges.push(range);
  const plot = Bokeh.Plotting.figure({x_range: range, width: 1360, height: %d, tools: [], toolbar_location: null,
    lod_threshold: null});
  const source = new Bokeh.ColumnDataSource({data: {x: [], y: []}}); sources.push(source);
  plot.line({field: "x"}, {field: "y"}, {source, line_color: "black"});
  return Bokeh.Plotting.show(plot, document.getElementById("at"));
}));
window.show = (a, b) => leads.forEach((lead, k) => {
  const [x, y] = slice(lead, a, b); ranges[k].setv({start: a, end: b}); sources[k].data = {x, y};
});
"""
_PLOTLY = """
const at = document.getElementById("at"), n = leads.length;
const layout = {width: 1360, height: %d * n, showlegend: false, margin: {l: 40, r: 10, t: 10, b: 30},
  xaxis: {range: [0, 14]}};
leads.forEach((lead, k) => { layout["yaxis" + (k ? k + 1 : "")] = {domain: [k / n, (k + .95) / n]}; });
const traces = (a, b) => leads.map((lead, k) => {
  const [x, y] = slice(lead, a, b);
  return {x, y, yaxis: "y" + (k ? k + 1 : ""), mode: "lines", type: "scatter", line: {color: "black", width: 1}};
});
const still = {staticPlot: true};
window.ready = Plotly.newPlot(at, traces(0, 14), layout, still);
window.show = (a, b) => { layout.xaxis.range = [a, b]; return Plotly.react(at, traces(a, b), {...layout}, still); };
"""
_UPLOT = """
const options = {width: 1360, height: %d, scales: {x: {time: false}}, legend: {show: false}, cursor: {show: false},
  series: [{}, {stroke: "black", width: 1}]};
const plots = leads.map((lead) => new uPlot({...options}, slice(lead, 0, 14), document.getElementById("at")));
window.ready = Promise.resolve();
window.show = (a, b) => plots.forEach((plot, k) => {
  plot.batch(() => { plot.setData(slice(leads[k], a, b), false); plot.setScale("x", {min: a, max: b}); });
});
"""


def _bokeh() -> tuple[str, str]:
    from bokeh.resources import Resources

    parts = Resources(mode="inline", minified=True, components=["bokeh", "bokeh-api"]).js_raw
    return "\n".join(parts), f"bokeh {metadata.version('bokeh')} (BSD-3-Clause)"


def _plotly() -> tuple[str, str]:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs(), f"plotly {metadata.version('plotly')} (MIT)"


def _uplot() -> tuple[str, str]:
    folder = Path(os.environ["SKECG_UPLOT"])
    version = json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
    return (folder / "dist" / "uPlot.iife.min.js").read_text(encoding="utf-8"), f"uPlot {version} (MIT)"


CANDIDATES: dict[str, tuple[Callable[[], bool], Callable[[], tuple[str, str]], str]] = {
    "bokeh": (lambda: find_spec("bokeh") is not None, _bokeh, _BOKEH),
    "plotly": (lambda: find_spec("plotly") is not None, _plotly, _PLOTLY),
    "uPlot": (lambda: "SKECG_UPLOT" in os.environ, _uplot, _UPLOT),
}


def bare_page(library: str, code: str, ecg: np.ndarray, fs: float) -> str:
    """Return a page of one candidate: the trace alone, without colours, of data that lie in the page."""
    whole = np.clip(np.rint(ecg * 1000), -32767, 32767).astype("<i2")
    facts = {"leads": len(ecg), "n": ecg.shape[1], "fs": fs}
    library = library.replace("</script", "<\\/script")
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>candidate</title><body><p>candidate</p>'
        f'<div id="at"></div><script type="text/plain" id="data">{base64.b64encode(whole.tobytes()).decode()}</script>'
        f'<script type="application/json" id="facts">{json.dumps(facts)}</script><script>{library}</script>'
        f"<script>{_COMMON}{code}</script>"
    )


def measured(driver: Any, path: Path, ready: str, show: str, end: float, n: int) -> dict[str, Any]:
    """Return size (MB), first paint and readiness (s), and the times of frames (ms) of a page."""
    driver.get(path.as_uri())
    driver.execute_async_script(f"const done = arguments[0]; {ready}.then(() => done())")
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    begun = driver.execute_script("return performance.now()") / 1000
    frames = driver.execute_async_script(_FRAMES, show, [0, end, n])
    return {"size": path.stat().st_size / 1e6, "paint": paints(driver)["first-paint"], "ready": begun, **frames}


def _told(found: dict[str, Any]) -> str:
    scroll, zoom = found["scroll"], found["zoom"]
    return (
        f"{found['size']:.2f} MB; first paint {found['paint']:.2f} s, drawn {found['ready']:.2f} s; a step of "
        f"scrolling {scroll[0]:.0f} ms ({scroll[1]:.0f}), of zooming {zoom[0]:.0f} ms ({zoom[1]:.0f})"
    )


@row("S18", "Speed", "Report to scroll")
def report(quick: bool) -> Iterator[Line]:
    """Measure the bare pages of the candidates, and skecg's own whole report."""
    if why_not():
        raise Skipped(why_not())
    if find_spec("bokeh") is None:
        raise Skipped("needs bokeh (extra `report`)")
    from skecg import write_report

    n = 6 if quick else 60
    hour, ecg, beats = (*of_record(), None) if quick else hour_of_one_lead()
    twelve, ecg12 = ten_seconds_of_twelve()
    works = (
        ("20 s of one lead at 360 Hz" if quick else "an hour of one lead at 360 Hz", hour, ecg, beats, 360.0, True),
        ("ten seconds of twelve leads at 500 Hz", twelve, ecg12, None, 500.0, False),
    )
    note = (
        "times are of headless Chromium with software rendering, median (95 %), two frames of 16.7 ms at the least; "
        "the candidates draw the trace alone, by the same code for the extremes of each column"
    )
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile", _WIDTH, _HEIGHT) as driver:
        for work, result, data, marks, fs, limited in works:
            end = data.shape[1] / fs
            for name, (there, load, code) in CANDIDATES.items():
                if not there():
                    yield Line(work=f"{work}, {name}", measured="not measured: it is not there (see the page Reports)")
                    continue
                library, told = load()
                page = Path(folder) / f"{name}.html"
                page.write_text(bare_page(library, code % _ROW, data, fs), encoding="utf-8")
                found = measured(driver, page, "window.ready", "return window.show(a, b)", end, n)
                yield Line(work=f"{work}, bare trace", anchor=told, measured=_told(found), limit=_of_library(library))
            page = write_report({"explainer": result}, Path(folder) / "report.html", record=data, beats=marks)
            found = measured(driver, page, "skecgReport.ready", "skecgReport.setRange(a, b)", end, n)
            yield Line(
                work=f"{work}, write_report; {note}",
                measured=_told(found),
                goal="< 15 MB, first paint < 3 s" if limited else "first paint < 3 s",
                met=found["paint"] < 3 and (not limited or found["size"] < 15),
            )


def _of_library(text: str) -> str:
    return f"its JavaScript alone {len(text.encode()) / 1e6:.2f} MB"
