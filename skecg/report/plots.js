// The pictures: ECG on paper coloured by relevance, the band of classes, and the strip of the whole record.
const FINE = "#f6dcd8", BOLD = "#e9b7b0", INK = "#111111", GREY = "#a6a6a6";
const PX_PER_MM = 96 / 25.4; // as CSS has it
const BAND = 0.55, BEATS = 0.4, CURVE = 1.0, SPACE = 0.1; // heights in the picture, mV of paper
const LEVELS = 16; // shades of a sign
const FAINT = 0.02; // below this share of full colour nothing is drawn: the trace alone says "nothing here"
const MAX_LINES = 700;
const FAR = 0.05; // s a column; from there on beats run together, and colours are drawn over a grey trace
const OVERVIEW = 76; // px
const NORMAL_TINT = "#e9e9e9";
const TINTS = ["#f9cfa3", "#b3dcf5", "#f6b9a4", "#bfe6d6", "#f1e79a", "#cdc3ec", "#f2c5de", "#a8c8e6", "#d9d2b8"];

function tintOf(label) {
  if (data.normal.includes(label)) return NORMAL_TINT;
  const others = data.labels.filter((one) => !data.normal.includes(one));
  return TINTS[Math.max(0, others.indexOf(label)) % TINTS.length];
}

function emptySource(names) {
  return new Bokeh.ColumnDataSource({ data: Object.fromEntries(names.map((name) => [name, []])) });
}

// Polylines a shade, the faintest first, so that the strongest lie on top.
class Shades {
  constructor(track) {
    this.track = track;
    this.parts = Array.from({ length: 2 * LEVELS }, () => ({ x: [], y: [] }));
  }

  add(points, strengths, clip, offset, perSecond) {
    const { x, y } = points;
    const full = this.track.vmax, n = x.length;
    if (!(full > 0)) return;
    let current = null;
    for (let j = 0; j < n; j++) {
      const share = strengths[j] / full;
      const size = Math.min(1, Math.abs(share));
      if (!(size >= FAINT) || Number.isNaN(y[j])) { current = null; continue; }
      const level = 2 * Math.min(LEVELS - 1, Math.floor(size * LEVELS)) + (share > 0 ? 1 : 0);
      const part = this.parts[level];
      const here = offset + clip(y[j]);
      if (part !== current) {
        const before = j > 0 && !Number.isNaN(y[j - 1]);
        part.x.push(NaN, (before ? (x[j - 1] + x[j]) / 2 : x[j] - 0.5) / perSecond);
        part.y.push(NaN, before ? (offset + clip(y[j - 1]) + here) / 2 : here);
        current = part;
      }
      const after = j + 1 < n && !Number.isNaN(y[j + 1]);
      part.x.push(x[j] / perSecond, (after ? (x[j] + x[j + 1]) / 2 : x[j] + 0.5) / perSecond);
      part.y.push(here, after ? (here + offset + clip(y[j + 1])) / 2 : here);
    }
  }

  lines() {
    const palette = this.track.palette, out = { x: [], y: [], color: [] };
    this.parts.forEach((part, k) => {
      if (!part.x.length) return;
      const share = (Math.floor(k / 2) + 0.5) / LEVELS * (k % 2 ? 1 : -1);
      const place = this.track.signed ? (share + 1) / 2 : Math.abs(share);
      out.x.push(part.x);
      out.y.push(part.y);
      out.color.push(palette[Math.round(place * (palette.length - 1))]);
    });
    return out;
  }
}

// Text that fits its box: the longest of the versions, or none.
function fitting(versions, width) {
  return versions.find((text) => text.length * 6.6 + 6 <= width) ?? "";
}

// Boxes of the windows between two times, merged where a column of the screen would hold several.
function boxesOf(track, from, to, width) {
  const { left, right, label } = track.windows;
  let a = firstAfter(right, from), b = firstAfter(left, to);
  const out = [];
  const pixel = (to - from) / width;
  for (let i = a; i < b; i++) {
    const last = out[out.length - 1];
    if (last && right[i] - left[i] < 4 * pixel && left[i] - last.right < pixel) {
      const close = last.right - last.left < 2 * pixel;
      if (label[i] === last.label) { last.right = right[i]; last.many = true; continue; }
      // of several classes in one column the rarer one is shown: a lone beat must not vanish
      if (close && track.rank[label[i]] > track.rank[last.label]) { last.label = label[i]; last.right = right[i]; continue; }
      if (close) { last.right = Math.max(last.right, right[i]); continue; }
    }
    out.push({ left: left[i], right: right[i], label: label[i], index: i, many: false });
  }
  return out;
}

// The first position whose value is greater; values increase.
function firstAfter(values, limit) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle; else low = middle + 1;
  }
  return low;
}

function nameOf(code) {
  return code < 0 ? "missing" : data.labels[code];
}

class Sheet {
  // A sheet of paper: some leads of one track, under each other, with the band of classes above.
  constructor(track, leads) {
    this.track = track;
    this.leads = leads;
    this.range = new Bokeh.Range1d({ start: data.begin, end: data.end });
    this.sources = {
      fine: emptySource(["x", "y"]), bold: emptySource(["x", "y"]), shades: emptySource(["x", "y", "color"]),
      ground: emptySource(["x", "y"]), trace: emptySource(["x", "y"]), curve: emptySource(["x", "y"]), zero: emptySource(["x", "y"]),
      box: emptySource(["left", "right", "top", "bottom", "color"]), text: emptySource(["x", "y", "text"]),
      beat: emptySource(["x", "y", "text"]), odd: emptySource(["x", "y", "text"]),
      event: emptySource(["left", "right", "top", "bottom"]),
    };
    const s = this.sources;
    this.yRange = new Bokeh.Range1d({ start: 0, end: 1 });
    this.ticker = new Bokeh.FixedTicker({ ticks: [] });
    const plot = this.plot = Bokeh.Plotting.figure({
      x_range: this.range, y_range: this.yRange, x_axis_type: null, y_axis_type: null, tools: [], toolbar_location: null,
      sizing_mode: "stretch_width", height: 200, min_border: 0, min_border_left: 1, min_border_right: 1,
      background_fill_color: "#ffffff", border_fill_color: "#ffffff", outline_line_color: BOLD, lod_threshold: null,
    });
    this.axis = new Bokeh.LinearAxis({
      ticker: this.ticker, major_label_text_font_size: "12px", major_label_text_color: "#333333",
      axis_line_color: BOLD, major_tick_line_color: "#888888", minor_tick_line_color: null, major_tick_in: 0,
    });
    plot.add_layout(this.axis, "below");
    const line = (source, options) => plot.line({ field: "x" }, { field: "y" }, { source, ...options });
    line(s.fine, { line_color: FINE, line_width: 1 });
    line(s.bold, { line_color: BOLD, line_width: 1 });
    plot.quad({ field: "left" }, { field: "right" }, { field: "bottom" }, { field: "top" },
      { source: s.event, fill_color: null, hatch_pattern: "right_diagonal_line", hatch_color: "#9a9a9a",
        hatch_alpha: 0.5, line_color: "#555555", line_dash: "dashed" });
    line(s.ground, { line_color: GREY, line_width: 1 });
    this.halo = plot.multi_line({ field: "x" }, { field: "y" },
      { source: s.shades, line_color: { field: "color" }, line_width: 7, line_cap: "round", line_join: "round" });
    line(s.trace, { line_color: INK, line_width: 1.2, line_join: "round" });
    line(s.zero, { line_color: "#777777", line_width: 1, line_dash: "dotted" });
    line(s.curve, { line_color: "#3b3b3b", line_width: 1 });
    plot.quad({ field: "left" }, { field: "right" }, { field: "bottom" }, { field: "top" },
      { source: s.box, fill_color: { field: "color" }, line_color: "#ffffff", line_width: 1 });
    const text = (source, options) => plot.text({ field: "x" }, { field: "y" }, { field: "text" },
      { source, text_baseline: "middle", text_font_size: "12px", text_color: INK, ...options });
    text(s.text, {});
    text(s.beat, { text_align: "center", text_color: "#555555" });
    text(s.odd, { text_align: "center", text_font_style: "bold", text_color: "#8b0000" });
    this.names = leads.map((lead) => {
      const label = new Bokeh.Label({
        x: 6, y: 0, x_units: "screen", text: track.names[lead], text_font_size: "13px", text_font_style: "bold",
        text_color: INK, background_fill_color: "#ffffff", background_fill_alpha: 0.8, text_baseline: "top",
      });
      plot.add_layout(label);
      return label;
    });
    this.arrange(0);
  }

  // Places of the rows, from the top; everything is in mV of paper, which the gain turns into px.
  arrange(least) {
    const { curve, gain } = settings;
    const heights = this.leads.map((lead) => data.ecg[lead].high - data.ecg[lead].low);
    const head = BAND + (data.beats.time.length ? BEATS : 0) + SPACE;
    const each = curve ? CURVE + SPACE : 0;
    const total = Math.max(least, head + heights.reduce((sum, height) => sum + height + each, 0));
    let top = total - head;
    this.rows = this.leads.map((lead, k) => {
      const row = { lead, top, zero: top - data.ecg[lead].high, bottom: top - heights[k], curve: top - heights[k] - CURVE / 2 };
      this.names[k].y = top - 0.05;
      top -= heights[k] + each;
      return row;
    });
    this.total = total;
    this.yRange.setv({ start: 0, end: total });
    const frame = Math.round(total * gain * PX_PER_MM);
    this.plot.height = frame + 26;
    this.pxPerMv = gain * PX_PER_MM;
  }

  async show(element) {
    this.view = await Bokeh.Plotting.show(this.plot, element);
  }

  get width() {
    return this.plot.inner_width || 600;
  }

  update(from, to) {
    const { fs, length, origin } = data;
    const width = Math.max(50, this.width);
    this.range.setv({ start: from, end: to });
    const first = Math.max(0, Math.floor(from * fs - origin) - 1), last = Math.min(length - 1, Math.ceil(to * fs - origin) + 1);
    this.drawPaper(from, to, width);
    const columns = columnsOf(first, last, width);
    const shades = new Shades(this.track), trace = { x: [], y: [] }, curve = { x: [], y: [] }, zero = { x: [], y: [] };
    for (const row of this.rows) {
      const limits = data.ecg[row.lead];
      const clip = (value) => Math.min(limits.high + 0.2, Math.max(limits.low - 0.2, value));
      const signal = this.track.signals[row.lead];
      const points = pointsOf(ecg[row.lead], columns, length);
      const strengths = strengthsOf(signal, columns, length);
      for (let j = 0; j < points.x.length; j++) points.x[j] += origin;
      shades.add(points, strengths, clip, row.zero, fs);
      for (let j = 0; j < points.x.length; j++) {
        trace.x.push(points.x[j] / fs);
        trace.y.push(row.zero + clip(points.y[j]));
      }
      trace.x.push(NaN);
      trace.y.push(NaN);
      if (!settings.curve) continue;
      const full = this.track.vmax || 1;
      const base = this.track.signed ? row.curve : row.curve - CURVE / 2 + 0.05;
      const scale = this.track.signed ? CURVE / 2 - 0.05 : CURVE - 0.1;
      const drawn = pointsOf(signal, columns, length);
      for (let j = 0; j < drawn.x.length; j++) {
        curve.x.push((drawn.x[j] + origin) / fs);
        curve.y.push(base + scale * Math.min(1, Math.max(-1, drawn.y[j] / full)));
      }
      curve.x.push(NaN);
      curve.y.push(NaN);
      zero.x.push(from, to, NaN);
      zero.y.push(base, base, NaN);
    }
    this.sources.shades.data = shades.lines();
    const far = (to - from) / width > FAR, nothing = { x: [], y: [] };
    this.sources.trace.data = far ? nothing : trace;
    this.sources.ground.data = far ? trace : nothing;
    this.sources.curve.data = curve;
    this.sources.zero.data = zero;
    this.halo.glyph.line_width = far ? 1.5 : 7;
    this.drawBand(from, to, width);
    this.drawEvent();
    this.ticker.ticks = ticks.places;
    this.axis.major_label_overrides = new Map(ticks.places.map((place, i) => [place, ticks.texts[i]]));
  }

  drawPaper(from, to, width) {
    const lines = (dt, dv) => {
      const out = { x: [], y: [] };
      if ((to - from) / dt + this.total / dv > MAX_LINES || (dt / (to - from)) * width < 2.5) return out;
      for (let k = Math.ceil(from / dt); k * dt <= to; k++) {
        out.x.push(k * dt, k * dt, NaN);
        out.y.push(0, this.total, NaN);
      }
      for (let k = 0; k * dv <= this.total + 1e-9; k++) {
        out.x.push(from, to, NaN);
        out.y.push(k * dv, k * dv, NaN);
      }
      return out;
    };
    this.sources.fine.data = lines(0.04, 0.1);
    this.sources.bold.data = lines(0.2, 0.5);
  }

  drawBand(from, to, width) {
    const top = this.total, bottom = top - BAND + 0.05;
    const box = { left: [], right: [], top: [], bottom: [], color: [] }, text = { x: [], y: [], text: [] };
    const windows = this.track.windows;
    for (const one of boxesOf(this.track, from, to, width)) {
      const left = Math.max(from, one.left), right = Math.min(to, one.right);
      if (right <= left) continue;
      const name = nameOf(one.label), score = windows.score[one.index], target = windows.target[one.index];
      box.left.push(left);
      box.right.push(right);
      box.top.push(top);
      box.bottom.push(bottom);
      box.color.push(one.label < 0 ? "#ffffff" : tintOf(name));
      const of = target === one.label || target < 0 ? "" : ` (of ${nameOf(target)})`;
      const long = one.many || score === null ? [] : [`${name} · score ${short(score)}${of}`, `${name} ${short(score)}${of}`];
      const shown = fitting([...long, name], (right - left) / (to - from) * width);
      if (!shown) continue;
      text.x.push(left + 3 * (to - from) / width);
      text.y.push((top + bottom) / 2);
      text.text.push(shown);
    }
    this.sources.box.data = box;
    this.sources.text.data = text;
    const beat = { x: [], y: [], text: [] }, odd = { x: [], y: [], text: [] };
    const times = data.beats.time;
    const a = firstAfter(times, from), b = firstAfter(times, to);
    if ((b - a) * 12 <= width) {
      for (let i = a; i < b; i++) {
        const into = data.beats.abnormal[i] ? odd : beat;
        into.x.push(times[i]);
        into.y.push(bottom - BEATS / 2);
        into.text.push(data.beats.label[i] || "|");
      }
    }
    this.sources.beat.data = beat;
    this.sources.odd.data = odd;
  }

  drawEvent() {
    const event = state.event;
    this.sources.event.data = event
      ? { left: [event.left], right: [event.right], top: [this.total - BAND], bottom: [0] }
      : { left: [], right: [], top: [], bottom: [] };
  }
}

class Overview {
  // The whole record on one strip: classes, the first lead, where relevance is strongest, and the part in view.
  constructor(track) {
    this.track = track;
    this.sources = {
      box: emptySource(["left", "right", "top", "bottom", "color"]), trace: emptySource(["x", "y"]),
      shades: emptySource(["x", "y", "color"]), odd: emptySource(["x", "y"]),
    };
    const s = this.sources;
    this.ticker = new Bokeh.FixedTicker({ ticks: [] });
    const plot = this.plot = Bokeh.Plotting.figure({
      x_range: new Bokeh.Range1d({ start: data.begin, end: data.end }), y_range: new Bokeh.Range1d({ start: 0, end: 1 }),
      x_axis_type: null, y_axis_type: null, tools: [], toolbar_location: null, sizing_mode: "stretch_width",
      height: OVERVIEW, min_border: 0, min_border_left: 1, min_border_right: 1, background_fill_color: "#ffffff",
      border_fill_color: "#ffffff", outline_line_color: "#bbbbbb", lod_threshold: null,
    });
    this.axis = new Bokeh.LinearAxis({
      ticker: this.ticker, major_label_text_font_size: "11px", major_label_text_color: "#333333",
      axis_line_color: "#bbbbbb", major_tick_in: 0, minor_tick_line_color: null,
    });
    plot.add_layout(this.axis, "below");
    const quad = (source, options) => plot.quad({ field: "left" }, { field: "right" }, { field: "bottom" },
      { field: "top" }, { source, ...options });
    quad(s.box, { fill_color: { field: "color" }, line_color: null });
    plot.line({ field: "x" }, { field: "y" }, { source: s.trace, line_color: GREY, line_width: 1 });
    plot.multi_line({ field: "x" }, { field: "y" },
      { source: s.shades, line_color: { field: "color" }, line_width: 1.5 });
    plot.scatter({ field: "x" }, { field: "y" },
      { source: s.odd, marker: "inverted_triangle", size: 5, fill_color: "#8b0000", line_color: null });
  }

  async show(element) {
    this.view = await Bokeh.Plotting.show(this.plot, element);
  }

  // What does not change with the part in view.
  draw() {
    const { fs, length, origin } = data;
    const width = Math.max(50, this.plot.inner_width || 600);
    const box = { left: [], right: [], top: [], bottom: [], color: [] };
    for (const one of boxesOf(this.track, data.begin, data.end, width)) {
      box.left.push(one.left);
      box.right.push(Math.max(one.right, one.left + (data.end - data.begin) / width));
      box.top.push(1);
      box.bottom.push(0.72);
      box.color.push(one.label < 0 ? "#ffffff" : tintOf(nameOf(one.label)));
    }
    this.sources.box.data = box;
    const columns = columnsOf(0, length - 1, width), shades = new Shades(this.track);
    const limits = data.ecg[0];
    const clip = (value) => Math.min(limits.high, Math.max(limits.low, value));
    const points = pointsOf(ecg[0], columns, length);
    for (let j = 0; j < points.x.length; j++) {
      points.x[j] += origin;
      points.y[j] = 0.04 + 0.62 * (clip(points.y[j]) - limits.low) / (limits.high - limits.low);
    }
    shades.add(points, strengthsOf(this.track.signals[0], columns, length), (value) => value, 0, fs);
    this.sources.shades.data = shades.lines();
    this.sources.trace.data = { x: Array.from(points.x, (x) => x / fs), y: Array.from(points.y) };
    const odd = { x: [], y: [] };
    const least = (data.end - data.begin) / width * 4;
    let before = -Infinity;
    for (const event of data.events) {
      if (event.time - before < least) continue;
      odd.x.push(event.time);
      odd.y.push(0.94);
      before = event.time;
    }
    this.sources.odd.data = odd;
    const marks = ticksOf(data.begin, data.end, width);
    this.ticker.ticks = marks.places;
    this.axis.major_label_overrides = new Map(marks.places.map((place, i) => [place, marks.texts[i]]));
  }

  // The part in view is an element over the picture, which so has not to be drawn again.
  update(from, to) {
    const share = (time) => (time - data.begin) / (data.end - data.begin) * 100;
    const box = byId("part");
    box.style.left = `${share(from)}%`;
    box.style.width = `${share(to) - share(from)}%`;
    box.style.height = `${this.plot.inner_height || OVERVIEW - 24}px`;
  }
}
