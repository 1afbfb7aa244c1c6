// The data: arrays out of the page's text, and their extremes over any stretch.
const MISSING = -32768;
const BLOCK = 64; // samples; longer stretches are answered from the extremes of whole blocks

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The low bytes of all differences come first, then the high ones; sums of 16 bits wrap, as the differences did.
async function decode(id) {
  const element = document.getElementById(id);
  const bytes = await inflate(bytesOf(element.textContent));
  element.remove(); // its text would lie in memory twice
  const n = bytes.length / 2;
  const values = new Int16Array(n);
  for (let i = 0, sum = 0; i < n; i++) {
    sum = (sum + (bytes[i] | (bytes[n + i] << 8))) << 16 >> 16;
    values[i] = sum;
  }
  return values;
}

class Signal {
  constructor(values, scale) {
    this.values = values;
    this.scale = scale;
    const n = Math.ceil(values.length / BLOCK);
    this.low = new Int16Array(n);
    this.high = new Int16Array(n);
    for (let k = 0; k < n; k++) {
      const found = this.extremes(k * BLOCK, Math.min((k + 1) * BLOCK, values.length), true);
      this.low[k] = found.low;
      this.high[k] = found.high;
    }
  }

  at(i) {
    const value = this.values[i];
    return value === undefined || value === MISSING ? NaN : value * this.scale;
  }

  // Least and greatest value of the samples from a up to b, and whether the least comes first; MISSING where all are.
  extremes(a, b, exact = false) {
    let low = 32767, high = MISSING, atLow = a, atHigh = a;
    if (exact || b - a <= 4 * BLOCK) {
      for (let i = a; i < b; i++) {
        const value = this.values[i];
        if (value === MISSING) continue;
        if (value < low) { low = value; atLow = i; }
        if (value > high) { high = value; atHigh = i; }
      }
    } else {
      const end = Math.ceil(b / BLOCK);
      for (let k = Math.floor(a / BLOCK); k < end; k++) {
        if (this.high[k] === MISSING) continue;
        if (this.low[k] < low) { low = this.low[k]; atLow = k; }
        if (this.high[k] > high) { high = this.high[k]; atHigh = k; }
      }
    }
    return high === MISSING ? { low: MISSING, high: MISSING, rising: true } : { low, high, rising: atLow <= atHigh };
  }
}

// Where to look for a stretch: every sample, or two points, the least and the greatest value, in each of n columns.
function columnsOf(first, last, n) {
  const per = (last - first) / n;
  const edges = [];
  if (per <= 2) {
    for (let i = first; i <= last; i++) edges.push(i);
    return { edges, single: true };
  }
  // columns stand at whole multiples of their width, so that the curve does not flicker while it is scrolled
  const width = Math.max(2, Math.round(per));
  for (let i = Math.floor(first / width) * width; i < last; i += width) edges.push(i);
  edges.push(edges[edges.length - 1] + width);
  return { edges, single: false };
}

// Points of a signal: positions (in samples), values, NaN where nothing is; two for a column, or one for a sample.
function pointsOf(signal, columns, length) {
  const { edges, single } = columns;
  const n = single ? edges.length : 2 * (edges.length - 1);
  const x = new Float64Array(n), y = new Float64Array(n);
  if (single) {
    for (let j = 0; j < n; j++) { x[j] = edges[j]; y[j] = signal.at(edges[j]); }
    return { x, y };
  }
  for (let j = 0; j + 1 < edges.length; j++) {
    const a = Math.max(0, edges[j]), b = Math.min(length, edges[j + 1]);
    const found = a < b ? signal.extremes(a, b) : { low: MISSING, high: MISSING, rising: true };
    const none = found.high === MISSING;
    const low = none ? NaN : found.low * signal.scale, high = none ? NaN : found.high * signal.scale;
    const quarter = (edges[j + 1] - edges[j]) / 4;
    x[2 * j] = edges[j] + quarter;
    x[2 * j + 1] = edges[j] + 3 * quarter;
    y[2 * j] = found.rising ? low : high;
    y[2 * j + 1] = found.rising ? high : low;
  }
  return { x, y };
}

// The relevance of each point that pointsOf gives: of a column, that of the largest size.
function strengthsOf(signal, columns, length) {
  const { edges, single } = columns;
  if (single) return Float64Array.from(edges, (i) => signal.at(i));
  const out = new Float64Array(2 * (edges.length - 1));
  for (let j = 0; j + 1 < edges.length; j++) {
    const a = Math.max(0, edges[j]), b = Math.min(length, edges[j + 1]);
    const found = a < b ? signal.extremes(a, b) : { low: MISSING, high: MISSING };
    const largest = Math.abs(found.low) > Math.abs(found.high) ? found.low : found.high;
    out[2 * j] = out[2 * j + 1] = found.high === MISSING ? NaN : largest * signal.scale;
  }
  return out;
}
