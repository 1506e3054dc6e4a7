// Fetches frames: as values of 16 bits, which are windowed here, or as pictures that the node renders.
"use strict";

const KEPT_BYTES = matchMedia("(pointer: coarse)").matches ? 48e6 : 256e6; // of frames
const KEPT_FACTS = 4000;
const keptFrames = new Map(); // address to { promise, bytes }, the one unused longest first
const facts = new Map(); // of an object and a frame, a promise of what the node says about it
let keptBytes = 0;

function instancePath(slice) { return `/api/instances/${encodeURIComponent(slice.uid)}`; }

// What the node says about an object, and about the window and the place of one frame of it.
function aboutOf(slice) {
  const path = `${instancePath(slice)}/picture?frame=${slice.frame}`;
  let found = facts.get(path);
  if (!found) {
    found = ask(path).then((about) => { slice.about = about; return about; });
    found.catch(() => facts.delete(path));
    facts.set(path, found);
    if (facts.size > KEPT_FACTS) facts.delete(facts.keys().next().value);
  }
  return found;
}

function picturePath(slice, window, overlays) {
  const base = `${instancePath(slice)}/frames/${slice.frame}`;
  const query = new URLSearchParams();
  if (window) {
    query.set("center", Number(window.center.toPrecision(7)));
    query.set("width", Number(window.width.toPrecision(7)));
    if (window.function !== "LINEAR") query.set("function", window.function);
  }
  if (!overlays) query.set("overlays", "false");
  return query.size ? `${base}?${query}` : base;
}

function valuesPath(slice) { return `${instancePath(slice)}/frames/${slice.frame}/values`; }

function kept(path, fetched) {
  const known = keptFrames.get(path);
  if (known) { keptFrames.delete(path); keptFrames.set(path, known); return known.promise; }
  const entry = { bytes: 0, promise: null };
  const drop = () => { if (keptFrames.get(path) === entry) { keptFrames.delete(path); keptBytes -= entry.bytes; } };
  entry.promise = fetched(path).then((frame) => {
    if (keptFrames.get(path) === entry) { entry.bytes = frame.bytes; keptBytes += frame.bytes; }
    for (const [oldest, each] of keptFrames) {
      if (keptBytes <= KEPT_BYTES || each === entry) break;
      keptFrames.delete(oldest);
      keptBytes -= each.bytes;
    }
    return frame;
  });
  entry.promise.catch(drop);
  keptFrames.set(path, entry);
  return entry.promise;
}

async function fetched(path) {
  const response = await fetch(path);
  if (response.ok) return response;
  const error = new Error(await reasonOf(response));
  error.status = response.status;
  throw error;
}

function fetchPicture(path) {
  return kept(path, async () => {
    const image = await createImageBitmap(await (await fetched(path)).blob());
    return { image, bytes: image.width * image.height * 4 };
  });
}

function fetchValues(path) {
  return kept(path, async () => {
    const response = await fetched(path);
    return valuesOf(response.headers, await response.arrayBuffer());
  });
}

// A frame as values: what the headers say, and the values as numbers.
function valuesOf(headers, buffer) {
  const number = (name) => Number(headers.get(name));
  const [rows, columns] = [number("Frame-Rows"), number("Frame-Columns")];
  const count = rows * columns;
  const signed = headers.get("Frame-Pixel-Representation") === "1";
  const told = headers.get("Frame-Window")?.split(" ");
  return {
    rows, columns, signed, bytes: buffer.byteLength,
    stored: littleEndian(buffer, count, signed),
    overlays: headers.get("Frame-Overlays") === "1" ? new Uint8Array(buffer, 2 * count) : null,
    slope: number("Frame-Rescale-Slope"),
    intercept: number("Frame-Rescale-Intercept"),
    units: decodeURIComponent(headers.get("Frame-Rescale-Type") || ""),
    single: headers.get("Frame-Precision") === "float32",
    padding: headers.get("Frame-Padding")?.split(" ").map(Number),
    inverse: headers.get("Frame-Photometric-Interpretation") === "MONOCHROME1",
    window: told ? { center: Number(told[0]), width: Number(told[1]), function: told[2] } : null,
  };
}

function littleEndian(buffer, count, signed) {
  const Values = signed ? Int16Array : Uint16Array;
  if (new Uint8Array(new Uint16Array([1]).buffer)[0]) return new Values(buffer, 0, count);
  const view = new DataView(buffer);
  return Values.from({ length: count }, (_, at) => (signed ? view.getInt16(2 * at, true) : view.getUint16(2 * at, true)));
}

// A stored value in the units of windows, in the precision that the node computes with.
function rescaled(values, stored) {
  const round = values.single ? Math.fround : (number) => number;
  let value = stored;
  if (values.slope !== 1) value = round(value * round(values.slope));
  if (values.slope !== 1 || values.intercept !== 0) value = round(value + round(values.intercept));
  return value;
}

// The shade of a value by PS3.3 section C.11.2.1, step by step as the node computes it.
function shadeOf(value, window, round) {
  const { center, width } = window;
  if (window.function === "SIGMOID") {
    const exponent = round(round(-4 * round(value - round(center))) / round(width));
    return Math.trunc(round(255 / round(1 + round(Math.exp(Math.max(-60, Math.min(60, exponent)))))));
  }
  let scaled;
  if (window.function === "LINEAR_EXACT" || width < 1) scaled = round(round(round(value - round(center)) / round(width)) + 0.5);
  else if (width === 1) scaled = value > round(center - 0.5) ? 1 : 0;
  else scaled = round(round(round(value - round(center - 0.5)) / round(Math.max(width - 1, 1e-6))) + 0.5);
  return Math.trunc(round(round(Math.max(0, Math.min(1, scaled)) * 255) + 0.5));
}

// The shade of each of the 65,536 values that 16 bits can have, in the order of their bits.
function shadeTable(values, window) {
  const table = new Uint32Array(65536);
  const wide = !(Math.abs(window.center) < 1e30 && window.width > 1e-30 && window.width < 1e30);
  const round = values.single && !wide ? Math.fround : (number) => number;
  const [low, high] = values.padding || [1, 0];
  for (let bits = 0; bits < 65536; bits += 1) {
    const stored = values.signed && bits > 32767 ? bits - 65536 : bits;
    let shade = shadeOf(rescaled(values, stored), window, round);
    if (values.inverse) shade = 255 - shade;
    if (stored >= low && stored <= high) shade = 0;
    table[bits] = opaque(shade);
  }
  return table;
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
function opaque(shade) { return (LITTLE ? 0xff000000 | shade << 16 | shade << 8 | shade : shade << 24 | shade << 16 | shade << 8 | 0xff) >>> 0; }

// Draws values with a window on a canvas of their size.
function drawValues(canvas, values, window, overlays) {
  if (canvas.width !== values.columns || canvas.height !== values.rows) { canvas.width = values.columns; canvas.height = values.rows; }
  const context = canvas.getContext("2d");
  const picture = context.createImageData(values.columns, values.rows);
  const pixels = new Uint32Array(picture.data.buffer);
  const table = shadeTable(values, window);
  const stored = values.stored;
  for (let at = 0; at < pixels.length; at += 1) pixels[at] = table[stored[at] & 0xffff];
  if (overlays && values.overlays) {
    const white = opaque(255);
    for (let at = 0; at < pixels.length; at += 1) if (values.overlays[at >> 3] >> (at & 7) & 1) pixels[at] = white;
  }
  context.putImageData(picture, 0, 0);
}
