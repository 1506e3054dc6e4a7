// Shows one series: scroll, window and level, zoom, move, play. Frames are rendered by the node.
"use strict";

const PRESETS = {
  CT: [["Soft tissue", 40, 400], ["Lung", -600, 1500], ["Bone", 400, 1800], ["Brain", 40, 80], ["Liver", 70, 150]],
};
const AHEAD = 6; // pictures fetched beyond the one shown
const KEPT = 120; // pictures kept
const MOST_FRAMES = 100_000; // of an object
const root = document.getElementById("viewer");
const screen_ = document.getElementById("screen");
const canvas = document.getElementById("canvas");
const position = document.getElementById("position");
const message = document.getElementById("message");
const view = { at: 0, zoom: 1, x: 0, y: 0, invert: false, tool: "window", window: null, known: null, overlays: true, playing: false };
const pictures = new Map(); // address to a promise of an image
const facts = new Map(); // of an object and a frame, a promise of what the node says about it
let slices = []; // { uid, frame, frames }
let shown = null;
let wanted = "";
let timer = 0;

function address(slice) {
  const base = `/api/instances/${encodeURIComponent(slice.uid)}/frames/${slice.frame}`;
  const query = new URLSearchParams();
  if (view.window) {
    query.set("center", Number(view.window.center.toPrecision(7)));
    query.set("width", Number(view.window.width.toPrecision(7)));
    if (view.window.function !== "LINEAR") query.set("function", view.window.function);
  }
  if (!view.overlays) query.set("overlays", "false");
  return query.size ? `${base}?${query}` : base;
}

// What the node says about an object, and about the window of one frame of it.
function aboutOf(slice) {
  const path = `/api/instances/${encodeURIComponent(slice.uid)}/picture?frame=${slice.frame}`;
  let found = facts.get(path);
  if (!found) {
    found = ask(path).then((about) => { slice.about = about; return about; });
    found.catch(() => facts.delete(path));
    facts.set(path, found);
    if (facts.size > KEPT) facts.delete(facts.keys().next().value);
  }
  return found;
}

// The window that a frame is shown with when nothing else is asked; null when none is known.
function ownWindow(slice) {
  const about = slice.about;
  if (!about || about.is_colour) return null;
  if (about.center !== null) return { center: about.center, width: about.width, function: about.function };
  return about.fitting_center === null ? null : { center: about.fitting_center, width: about.fitting_width, function: about.function };
}

function fetchPicture(path) {
  let found = pictures.get(path);
  if (found) { pictures.delete(path); pictures.set(path, found); return found; }
  found = (async () => {
    const response = await fetch(path);
    if (!response.ok) throw new Error(await reasonOf(response));
    return createImageBitmap(await response.blob());
  })();
  found.catch(() => pictures.delete(path));
  pictures.set(path, found);
  if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
  return found;
}

// While one picture is on its way, only the newest request is kept: dragging never builds up a queue.
let busy = false;
async function show() {
  if (!slices.length) return;
  wanted = address(slices[view.at]);
  position.value = view.at + 1;
  describe();
  if (busy) return;
  busy = true;
  try {
    while (wanted) {
      const path = wanted;
      wanted = "";
      try {
        shown = await fetchPicture(path);
        message.textContent = "";
      } catch (error) {
        shown = null;
        message.textContent = error.message;
      }
      paint();
    }
  } finally { busy = false; }
  const here = slices[view.at];
  if (!here.about && !view.playing) aboutOf(here).then(() => { if (slices[view.at] === here) describe(); }).catch(() => {});
  if (!view.dragging) for (let k = 1; k <= AHEAD; k += 1) for (const step of [k, -k]) {
    const next = slices[view.at + step];
    if (next) fetchPicture(address(next)).catch(() => {});
  }
}

function paint() {
  const scale = devicePixelRatio || 1;
  const width = screen_.clientWidth * scale;
  const height = screen_.clientHeight * scale;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!shown) return;
  const fit = Math.min(width / shown.width, height / shown.height);
  const factor = fit * view.zoom;
  context.imageSmoothingEnabled = factor < 4 * scale;
  context.filter = view.invert ? "invert(1)" : "none";
  context.drawImage(shown, (width - shown.width * factor) / 2 + view.x * scale, (height - shown.height * factor) / 2 + view.y * scale, shown.width * factor, shown.height * factor);
  document.getElementById("how").dataset.zoom = `${Math.round(factor / scale * 100)} %`;
  describe();
}

// Whole numbers, unless the window is too narrow for them.
function rounded(number, width) {
  return width >= 10 ? Math.round(number) : Number(number.toPrecision(3));
}

function describe() {
  const slice = slices[view.at];
  if (slice.about?.overlays) document.getElementById("overlays").hidden = false;
  const lines = [`${view.at + 1} / ${slices.length}`];
  if (slice.frames > 1) lines.push(`object ${slice.number}, frame ${slice.frame} of ${slice.frames}`);
  document.getElementById("where").textContent = lines.join(" · ");
  const table = !view.window && slice.about?.voi_lut;
  const own = ownWindow(slice);
  if (own) view.known = own; // of a frame that was shown, for a drag that begins before the next one's is known
  const used = view.window || own;
  const how = document.getElementById("how");
  how.textContent = [table ? "VOI LUT" : used && `C ${rounded(used.center, used.width)} W ${rounded(used.width, used.width)}`, how.dataset.zoom].filter(Boolean).join(" · ");
  document.getElementById("elements").href = `/instances/${encodeURIComponent(slice.uid)}`;
}

function go(at) {
  const next = Math.max(0, Math.min(slices.length - 1, at));
  if (next !== view.at) { view.at = next; show(); }
}

function setWindow(center, width, how = "LINEAR") {
  view.window = { center, width, function: how };
  show();
}

function reset() {
  Object.assign(view, { zoom: 1, x: 0, y: 0, invert: false, window: null });
  document.getElementById("invert").setAttribute("aria-pressed", "false");
  document.getElementById("preset").value = "own";
  show();
  paint();
}

function setTool(tool) {
  view.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
}

function invert() {
  view.invert = !view.invert;
  document.getElementById("invert").setAttribute("aria-pressed", String(view.invert));
  paint();
}

function zoomBy(factor, x, y) {
  const before = view.zoom;
  view.zoom = Math.max(0.1, Math.min(30, view.zoom * factor));
  const grown = view.zoom / before;
  const cx = (x ?? screen_.clientWidth / 2) - screen_.clientWidth / 2;
  const cy = (y ?? screen_.clientHeight / 2) - screen_.clientHeight / 2;
  view.x = cx - (cx - view.x) * grown;
  view.y = cy - (cy - view.y) * grown;
  paint();
}

// How long a frame is shown, in milliseconds: as its object says, until a rate is typed.
async function pauseAfter(slice) {
  const fps = document.getElementById("fps");
  const asked = 1000 / Math.max(1, Math.min(60, Number(fps.value) || 15));
  if (fps.dataset.asked || slice.frames === 1) return asked;
  try {
    const about = await aboutOf({ uid: slice.uid, frame: 1 });
    return about.frame_times_ms?.[slice.frame - 1] ?? (about.frame_time_ms || asked);
  } catch { return asked; }
}

function play(on) {
  view.playing = on;
  const button = document.getElementById("play");
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? "❚❚ Pause" : "▶ Play";
  clearTimeout(timer);
  const step = async () => {
    if (!view.playing) return;
    view.at = (view.at + 1) % slices.length;
    const began = performance.now();
    await show();
    const pause = await pauseAfter(slices[view.at]);
    timer = setTimeout(step, Math.max(0, pause - (performance.now() - began)));
  };
  if (on && slices.length > 1) step();
}

// Mouse, pen, finger
let drag = null;
let turned = 0;
screen_.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey) { zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.offsetX, event.offsetY); return; }
  turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
  const steps = Math.trunc(turned / 40);
  if (steps) { turned -= steps * 40; go(view.at + Math.sign(steps) * Math.min(3, Math.abs(steps))); }
}, { passive: false });
screen_.addEventListener("pointerdown", (event) => {
  screen_.focus();
  screen_.setPointerCapture(event.pointerId);
  const tool = event.button === 1 || event.shiftKey ? "pan" : event.button === 2 ? "zoom" : event.pointerType === "touch" && view.tool === "window" && !event.isPrimary ? "pan" : view.tool;
  drag = { tool, x: event.clientX, y: event.clientY, window: view.window || (slices[view.at].about ? ownWindow(slices[view.at]) : view.known) };
});
screen_.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const dx = event.clientX - drag.x;
  const dy = event.clientY - drag.y;
  drag.x = event.clientX;
  drag.y = event.clientY;
  if (drag.tool === "pan") { view.x += dx; view.y += dy; paint(); return; }
  if (drag.tool === "zoom") { zoomBy(1.01 ** -dy); return; }
  if (!drag.window) return;
  view.dragging = true;
  const { center, width } = drag.window;
  const speed = width > 10 ? Math.max(0.5, width / 400) : width / 400; // by half values, or by parts of a small range
  drag.window = { ...drag.window, center: center + dy * speed, width: Math.max(width > 10 ? 1 : width / 2, width + dx * speed) };
  setWindow(drag.window.center, drag.window.width, drag.window.function);
  document.getElementById("preset").value = "";
});
for (const end of ["pointerup", "pointercancel"]) screen_.addEventListener(end, () => {
  drag = null;
  if (view.dragging) { view.dragging = false; show(); }
});
screen_.addEventListener("contextmenu", (event) => event.preventDefault());
screen_.addEventListener("dblclick", reset);

const KEYS = {
  ArrowDown: () => go(view.at + 1), ArrowRight: () => go(view.at + 1), ArrowUp: () => go(view.at - 1), ArrowLeft: () => go(view.at - 1),
  PageDown: () => go(view.at + 10), PageUp: () => go(view.at - 10), Home: () => go(0), End: () => go(slices.length - 1),
  " ": () => play(!view.playing), "+": () => zoomBy(1.2), "-": () => zoomBy(1 / 1.2),
  r: reset, i: invert, o: () => showOverlays(!view.overlays), w: () => setTool("window"), m: () => setTool("pan"), z: () => setTool("zoom"),
};
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, button, a") || event.ctrlKey || event.altKey || event.metaKey) return;
  const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); return; }
  const choice = document.getElementById("preset").options[Number(event.key) - 1];
  if (choice && choice.value) { document.getElementById("preset").value = choice.value; preset(choice.value); }
});

function preset(value) {
  if (value === "own") { view.window = null; show(); return; }
  const [center, width, how] = value.split(" ");
  if (width) setWindow(Number(center), Number(width), how);
}

function showOverlays(on) {
  view.overlays = on;
  document.getElementById("overlays").setAttribute("aria-pressed", String(on));
  show();
}

function fillPresets(own) {
  const box = document.getElementById("preset");
  box.add(new Option("Own window", "own"));
  for (const [label, center, width] of PRESETS[root.dataset.modality] || []) box.add(new Option(`${label} ${center}/${width}`, `${center} ${width}`));
  if (own) {
    const { center, width, function: how } = own;
    box.add(new Option("Wide", `${center} ${width * 2} ${how}`));
    box.add(new Option("Narrow", `${center} ${width / 2} ${how}`));
  }
  const hidden = new Option("Manual", "");
  hidden.hidden = true;
  box.add(hidden);
  box.addEventListener("change", () => { preset(box.value); screen_.focus(); });
}

async function load() {
  let after = "";
  do {
    const page = await ask(`/api/series/${encodeURIComponent(root.dataset.series)}/instances${root.dataset.key || "?"}&limit=500${after}`);
    for (const row of page.rows) {
      const frames = Math.min(MOST_FRAMES, Math.max(1, parseInt(row.number_of_frames, 10) || 1));
      for (let frame = 1; frame <= frames; frame += 1) slices.push({ uid: row.sop_instance_uid, number: row.instance_number, frame, frames });
    }
    after = page.next ? `&after=${page.next}` : "";
  } while (after);
  position.max = slices.length;
  const start = slices.findIndex((slice) => slice.uid === new URLSearchParams(location.search).get("instance"));
  view.at = Math.max(0, start);
  try {
    const about = await aboutOf(slices[view.at]);
    if (about.is_colour) setTool("pan");
    if (about.frame_time_ms) document.getElementById("fps").value = Math.max(1, Math.min(60, Math.round(1000 / about.frame_time_ms)));
  } catch (error) { message.textContent = error.message; }
  fillPresets(ownWindow(slices[view.at]));
  await show();
  root.dataset.ready = "true";
  screen_.focus();
}

for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
document.getElementById("invert").addEventListener("click", invert);
document.getElementById("overlays").addEventListener("click", () => showOverlays(!view.overlays));
document.getElementById("fps").addEventListener("input", (event) => { event.target.dataset.asked = "true"; });
document.getElementById("reset").addEventListener("click", reset);
document.getElementById("play").addEventListener("click", () => play(!view.playing));
position.addEventListener("input", () => go(position.value - 1));
new ResizeObserver(paint).observe(screen_);
load().catch((error) => { message.textContent = error.message; });
