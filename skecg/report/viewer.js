// Moving through the record: mouse, touch, keys, buttons; what is said in words; the table of windows.
const data = JSON.parse(document.getElementById("facts").textContent);
const settings = { gain: 10, curve: data.ecg.length <= 3, columns: 1 };
const state = { from: data.begin, to: data.end, event: null, eventIndex: -1, drawn: null };
const ecg = [];
const sheets = [];
let overview = null, ticks = { places: [], texts: [] };
const byId = (id) => document.getElementById(id);

// ------------------------------------------------------------------------------------------------------------ words

function short(value) {
  if (value === null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 10000)) return value.toExponential(1);
  return size < 10 ? value.toFixed(2) : value.toFixed(1);
}

function clock(seconds, digits) {
  const scale = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * scale);
  const s = (whole / scale) % 60, m = Math.floor(whole / scale / 60) % 60, h = Math.floor(whole / scale / 3600);
  const text = s.toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${h}:${String(m).padStart(2, "0")}:${text}`;
}

// A time of the axis in words; windows that are not of one record have a clock each.
function when(time, digits = 1) {
  if (data.mode === "record") return clock(time, digits);
  const k = Math.min(data.count - 1, Math.max(0, Math.floor(time / data.pitch)));
  return `window ${k}, ${Math.min(data.window, Math.max(0, time - k * data.pitch)).toFixed(digits + 1)} s`;
}

const STEPS = [0.04, 0.2, 0.4, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200];

function ticksOf(from, to, width) {
  const places = [], texts = [];
  const room = Math.max(2, width / 90);
  if (data.mode === "windows" && (to - from) / data.pitch > 1.5) {
    const every = Math.max(1, Math.ceil((to - from) / data.pitch / room));
    for (let k = Math.ceil(from / data.pitch / every) * every; k < data.count && k * data.pitch <= to; k += every) {
      places.push(k * data.pitch);
      texts.push(`window ${k}`);
    }
    return { places, texts };
  }
  const step = STEPS.find((one) => (to - from) / one <= room) ?? STEPS[STEPS.length - 1];
  const offset = data.mode === "windows" ? Math.floor((from + to) / 2 / data.pitch) * data.pitch : 0;
  const digits = step < 0.2 ? 2 : step < 1 ? 1 : 0;
  for (let k = Math.ceil((from - offset) / step); k * step + offset <= to; k++) {
    if (k < 0) continue;
    places.push(k * step + offset);
    texts.push(data.mode === "windows" ? `${(k * step).toFixed(Math.max(1, digits))} s` : clock(k * step, digits));
  }
  return { places, texts };
}

function say(text) {
  byId("said").textContent = text;
}

function windowAt(track, time) {
  const { left, right } = track.windows;
  const i = firstAfter(right, time);
  return i < left.length && left[i] <= time ? i : -1;
}

// What lies under a time: shown as the pointer moves, and told by the test interface.
function readout(time) {
  const i = Math.round(time * data.fs - data.origin);
  const parts = [when(time, 2)];
  for (const track of data.tracks) {
    const told = track.names.map((name, lead) => {
      const value = track.signals[lead].at(i), volt = ecg[lead].at(i);
      const lone = data.ecg.length <= 3 ? ` ${Number.isNaN(volt) ? "no ECG" : `${volt.toFixed(2)} ${data.unit}`}, relevance` : "";
      const share = track.vmax > 0 ? ` (${Math.round(100 * value / track.vmax)} %)` : "";
      return `${name}${lone} ${Number.isNaN(value) ? "none" : value.toPrecision(2) + (lone ? share : "")}`;
    });
    const at = windowAt(track, time);
    const label = at < 0 ? "" : `; ${nameOf(track.windows.label[at])} ${short(track.windows.score[at])}`;
    parts.push((data.tracks.length > 1 ? `${track.name}: ` : "") + told.join(", ") + label);
  }
  return parts.join(" · ");
}

function tellView() {
  const span = state.to - state.from;
  const paper = (sheets[0] ? sheets[0].width / span : 0) / PX_PER_MM;
  const speed = paper >= 0.1 ? `${paper.toFixed(paper < 10 ? 1 : 0)} mm/s` : `${(paper * 60).toFixed(1)} mm/min`;
  const long = span < 120 ? `${span.toFixed(1)} s` : `${(span / 60).toFixed(1)} min`;
  byId("view").textContent = `${when(state.from)} to ${when(state.to)} (${long}), ${speed}, ${settings.gain} mm/mV`;
  byId("position").value = data.mode === "record" ? clock(state.from, 0) : Math.floor(state.from / data.pitch + 1e-9);
}

// ----------------------------------------------------------------------------------------------------------- moving

function setRange(from, to) {
  const whole = data.end - data.begin;
  const span = Math.min(whole, Math.max(20 / data.fs, to - from));
  const middle = (from + to) / 2;
  state.from = Math.min(data.end - span, Math.max(data.begin, middle - span / 2));
  state.to = state.from + span;
  if (state.drawn === null) state.drawn = requestAnimationFrame(draw);
  return [state.from, state.to];
}

function draw() {
  state.drawn = null;
  const { from, to } = state;
  if (!sheets.length) return;
  ticks = ticksOf(from, to, sheets[0].width);
  for (const sheet of sheets) sheet.update(from, to);
  overview.update(from, to);
  tellView();
}

const span = () => state.to - state.from;
const move = (share) => setRange(state.from + share * span(), state.to + share * span());

function zoom(factor, at = (state.from + state.to) / 2) {
  const wanted = Math.min(data.end - data.begin, span() * factor);
  const share = (at - state.from) / span();
  return setRange(at - share * wanted, at + (1 - share) * wanted);
}

const paperSpan = () => (sheets[0] ? sheets[0].width : 1000) / (25 * PX_PER_MM);

function center(time, width = span()) {
  return setRange(time - width / 2, time + width / 2);
}

// To the next (1) or the previous (-1) abnormal beat or window, as seen from the last one or else from the middle; at
// the begin and at the end of the record, where nothing else can come into the middle, from there.
function jump(direction) {
  const events = data.events;
  if (!events.length) { say(`nothing abnormal: ${data.rule}`); return null; }
  const last = state.event;
  let here = (state.from + state.to) / 2;
  if (direction > 0 && state.from <= data.begin + 1e-9) here = -Infinity;
  if (direction < 0 && state.to >= data.end - 1e-9) here = Infinity;
  const inView = last && last.time >= state.from - 1e-9 && last.time <= state.to + 1e-9;
  let i;
  if (inView) i = state.eventIndex + direction;
  else if (direction > 0) i = events.findIndex((event) => event.time > here);
  else i = events.findLastIndex((event) => event.time < here);
  if (i < 0 || i >= events.length) { say(`no ${direction > 0 ? "later" : "earlier"} abnormal ${data.what}`); return null; }
  return showEvent(i);
}

function showEvent(i) {
  const event = data.events[i];
  state.event = event;
  state.eventIndex = i;
  center(event.time, span() > 60 ? Math.min(paperSpan(), data.end - data.begin) : span());
  say(`${event.label} at ${when(event.time, 2)}, abnormal ${data.what} ${i + 1} of ${data.events.length}`);
  return event;
}

const COMMANDS = {
  start: () => setRange(data.begin, data.begin + span()),
  end: () => setRange(data.end - span(), data.end),
  back: () => move(-0.25), forward: () => move(0.25), pageback: () => move(-1), pageforward: () => move(1),
  in: () => zoom(0.5), out: () => zoom(2), whole: () => setRange(data.begin, data.end),
  paper: () => center((state.from + state.to) / 2, paperSpan()),
  next: () => jump(1), previous: () => jump(-1),
  curve: () => { settings.curve = !settings.curve; rearrange(); },
  help: () => { const help = byId("help"); if (help.open) help.close(); else help.showModal(); },
};
const KEYS = {
  ArrowLeft: "back", ArrowRight: "forward", "+": "in", "=": "in", "-": "out", "0": "paper", Home: "start", End: "end",
  n: "next", p: "previous", r: "curve", w: "whole", "?": "help",
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (event.key.length > 1 && event.target.closest(".scroll, pre")) return; // there the arrows scroll what has the focus
  let command = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (event.shiftKey && command === "back") command = "pageback";
  if (event.shiftKey && command === "forward") command = "pageforward";
  if (!command) return;
  event.preventDefault();
  COMMANDS[command]();
}

// The wheel moves along the record, and is left to the page where there is no further to go; with Ctrl it zooms.
function onWheel(event) {
  const area = event.currentTarget.getBoundingClientRect();
  const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? area.width : 1;
  if (event.ctrlKey || event.metaKey || event.shiftKey) {
    event.preventDefault();
    const turned = (event.deltaY || event.deltaX) * unit;
    zoom(Math.exp(Math.max(-1, Math.min(1, turned * 0.003))), timeAt(event));
    return;
  }
  const distance = (Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.deltaY) * unit;
  const [from] = [state.from];
  move(distance / area.width);
  if (state.from !== from) event.preventDefault();
}

const timeAt = (event) => {
  const area = (event.currentTarget.closest(".sheet") ?? event.currentTarget).getBoundingClientRect();
  return state.from + (event.clientX - area.left) / area.width * span();
};

// Drag with one pointer, pinch with two.
function listen(element) {
  const pointers = new Map();
  let before = null;
  element.addEventListener("wheel", onWheel, { passive: false });
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, event.clientX);
    element.setPointerCapture(event.pointerId);
    before = null;
  });
  element.addEventListener("pointermove", (event) => {
    if (!pointers.size) { byId("under").textContent = readout(timeAt(event)); return; }
    if (!pointers.has(event.pointerId)) return;
    const area = element.getBoundingClientRect();
    const last = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event.clientX);
    if (pointers.size === 1) { move((last - event.clientX) / area.width); return; }
    const [one, two] = [...pointers.values()];
    const apart = Math.max(10, Math.abs(one - two));
    if (before) zoom(before / apart, state.from + ((one + two) / 2 - area.left) / area.width * span());
    before = apart;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => { pointers.delete(event.pointerId); before = null; });
  }
  element.addEventListener("dblclick", (event) => center(timeAt(event)));
}

function listenOverview(element) {
  let held = false;
  const go = (event) => {
    const area = element.getBoundingClientRect();
    center(data.begin + (event.clientX - area.left) / area.width * (data.end - data.begin));
  };
  element.addEventListener("pointerdown", (event) => {
    held = true;
    element.setPointerCapture(event.pointerId);
    if (span() >= data.end - data.begin) setRange(state.from, state.from + Math.min(span(), paperSpan()));
    go(event);
  });
  element.addEventListener("pointermove", (event) => { if (held) go(event); });
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => { held = false; });
}

// Sheets of one track stand beside each other and are of one height.
function arrangeAll() {
  for (const track of data.tracks) {
    const beside = sheets.filter((sheet) => sheet.track === track);
    for (const sheet of beside) sheet.arrange(0);
    const tallest = Math.max(...beside.map((sheet) => sheet.total));
    for (const sheet of beside) sheet.arrange(tallest);
  }
}

function rearrange() {
  byId("curve").setAttribute("aria-pressed", settings.curve);
  arrangeAll();
  setRange(state.from, state.to);
}

// ------------------------------------------------------------------------------------------------------------ table

const table = { page: 0, size: 25, rows: [] };

function fillTable() {
  const track = data.tracks[Number(byId("track").value)];
  const windows = track.windows, only = byId("only").checked;
  table.rows = windows.label.map((label, i) => i).filter((i) => !only || abnormal(windows.label[i]));
  const pages = Math.max(1, Math.ceil(table.rows.length / table.size));
  table.page = Math.min(pages - 1, Math.max(0, table.page));
  byId("pages").textContent = `page ${table.page + 1} of ${pages}, ${table.rows.length} windows`;
  const body = byId("windows").tBodies[0];
  body.replaceChildren();
  for (const i of table.rows.slice(table.page * table.size, (table.page + 1) * table.size)) {
    const row = body.insertRow();
    const cells = [i, when(windows.from[i], 2), nameOf(windows.label[i]), nameOf(windows.target[i]), short(windows.score[i]),
      short(windows.strongest[i]), windows.at[i] === null ? "–" : when(windows.at[i], 2)];
    for (const text of cells) row.insertCell().textContent = text;
    row.cells[row.cells.length - 1].append(" ", showButton(windows.at[i] ?? windows.from[i], `window ${i}`));
  }
}

const abnormal = (label) => label >= 0 && !data.normal.includes(data.labels[label]);

function showButton(time, what) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "show";
  button.setAttribute("aria-label", `show ${what}`);
  button.addEventListener("click", () => goTo(time));
  return button;
}

function goTo(time) {
  center(time, span() > 60 ? Math.min(paperSpan(), data.end - data.begin) : span());
  say(`shown: ${when(time, 2)}`);
  byId("viewer").scrollIntoView({ block: "start" });
}

// A click on a column's head sorts by it; a second one turns the order round.
function sortable(element) {
  const heads = [...element.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = element.tBodies[0];
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [one, two] = [value(a), value(b)];
      const [x, y] = [Number(one), Number(two)];
      if (one !== "" && two !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
      if (one === "" || two === "") return (one === "") - (two === "") || 0;
      return one.localeCompare(two);
    };
    const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b));
    body.append(...rows);
  }));
}

function seconds(text) {
  const parts = text.trim().split(":").map(Number);
  return parts.some(Number.isNaN) || parts.length > 3 ? NaN : parts.reduce((sum, part) => 60 * sum + part, 0);
}

function listenControls() {
  for (const button of document.querySelectorAll("[data-command]")) {
    button.addEventListener("click", () => COMMANDS[button.dataset.command]());
  }
  document.addEventListener("keydown", onKey);
  byId("gain").addEventListener("change", (event) => { settings.gain = Number(event.target.value); rearrange(); });
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const time = data.mode === "record" ? seconds(byId("position").value) : Number(byId("position").value) * data.pitch;
    if (Number.isNaN(time)) say("no time: write h:mm:ss, or seconds");
    else setRange(time, time + span());
  });
  for (const button of document.querySelectorAll("[data-time]")) {
    button.addEventListener("click", () => goTo(Number(button.dataset.time)));
  }
  document.querySelectorAll("table.sortable").forEach(sortable);
  byId("track").addEventListener("change", () => { table.page = 0; fillTable(); });
  byId("only").addEventListener("change", () => { table.page = 0; fillTable(); });
  byId("earlier").addEventListener("click", () => { table.page--; fillTable(); });
  byId("later").addEventListener("click", () => { table.page++; fillTable(); });
  byId("all").addEventListener("toggle", () => { if (byId("all").open) fillTable(); });
}

// ------------------------------------------------------------------------------------------------------------ start

async function start() {
  const found = new Map();
  for (const { id, scale } of data.arrays) found.set(id, new Signal(await decode(id), scale));
  data.ecg.forEach((lead) => ecg.push(found.get(lead.array)));
  const rarer = {};
  for (const track of data.tracks) {
    track.signals = track.arrays.map((id) => found.get(id));
    for (const label of track.windows.label) rarer[label] = (rarer[label] ?? 0) - 1; // fewer is greater
    track.rank = rarer;
  }
  overview = new Overview(data.tracks[0]);
  await overview.show(byId("overview"));
  for (const [k, track] of data.tracks.entries()) {
    for (const element of document.querySelectorAll(`[data-track="${k}"]`)) {
      const sheet = new Sheet(track, JSON.parse(element.dataset.leads));
      await sheet.show(element.firstElementChild);
      sheet.plot.properties.inner_width.change.connect(() => setRange(state.from, state.to));
      listen(element);
      sheets.push(sheet);
    }
  }
  overview.plot.properties.inner_width.change.connect(() => overview.draw());
  listenOverview(byId("overview").parentElement);
  listenControls();
  overview.draw();
  arrangeAll();
  byId("curve").setAttribute("aria-pressed", settings.curve);
  const whole = data.end - data.begin, first = Math.max(paperSpan(), data.mode === "record" ? 0 : data.pitch);
  setRange(data.begin, data.begin + (whole <= 2 * first ? whole : first));
  document.body.dataset.ready = "yes";
  byId("loading").hidden = true;
}

const ready = start().catch((error) => {
  byId("loading").textContent = `The picture cannot be drawn here: ${error.message}. The words and tables below can be read without it.`;
  throw error;
});
window.skecgReport = Object.freeze({
  ready, range: () => [state.from, state.to], setRange, jump, goTo, zoom, readout,
  event: () => state.event, facts: () => ({ begin: data.begin, end: data.end, tracks: data.tracks.map((track) => track.name) }),
  sample: (track, lead, i) => [ecg[lead].at(i), data.tracks[track].signals[lead].at(i)],
});
