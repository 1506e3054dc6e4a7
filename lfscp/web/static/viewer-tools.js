// The toolbar, the keys and the pointer of the viewer: what they do to the pane that is active.
"use strict";

const PRESETS = {
  CT: [["Soft tissue", 40, 400], ["Lung", -600, 1500], ["Bone", 400, 1800], ["Brain", 40, 80], ["Liver", 70, 150]],
};
const presetBox = document.getElementById("preset");
const fpsBox = document.getElementById("fps");
const helpSheet = document.getElementById("help");
let tool = matchMedia("(pointer: coarse)").matches ? "scroll" : "window";

function setTool(name) {
  tool = name;
  for (const button of document.querySelectorAll(".tools [data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  for (const pane of panes) { if (pane.pending) { pane.pending = null; drawMarks(pane); } pane.element.dataset.tool = name; }
}

function pressed(id, on) { document.getElementById(id).setAttribute("aria-pressed", String(on)); }

function invert() {
  view.invert = !view.invert;
  view.paint();
}

function showOverlays(on) {
  view.overlays = on;
  view.show();
  view.paint();
}

// How long a frame is shown, in milliseconds: as its object says, until a rate is typed.
async function pauseAfter(slice) {
  const asked = 1000 / Math.max(1, Math.min(60, Number(fpsBox.value) || 15));
  if (fpsBox.dataset.asked || slice.frames === 1) return asked;
  try {
    const about = await aboutOf({ uid: slice.uid, frame: 1 });
    return about.frame_times_ms?.[slice.frame - 1] ?? (about.frame_time_ms || asked);
  } catch { return asked; }
}

function play(on, pane = view) {
  pane.playing = on;
  clearTimeout(pane.timer);
  const step = async () => {
    if (!pane.playing) return;
    pane.at = (pane.at + 1) % pane.slices.length;
    const began = performance.now();
    await pane.show();
    const pause = await pauseAfter(pane.slice);
    if (pane.playing) pane.timer = setTimeout(step, Math.max(0, pause - (performance.now() - began)));
  };
  if (on && pane.slices.length > 1) step(); else pane.show();
  changed(pane);
}

function preset(value) {
  view.preset = value;
  if (value === "own") { view.window = null; view.show(); view.paint(); return; }
  const [center, width, how] = value.split(" ");
  if (width) view.setWindow(Number(center), Number(width), how);
}

// The presets of the active pane; they stand on the keys 1 to 9.
function fillPresets() {
  const own = view.known;
  const others = (view.about?.other_windows || []).map((each) => [
    `${each.name} ${rounded(each.center, each.width)}/${rounded(each.width, each.width)}`, `${each.center} ${each.width} ${each.function}`,
  ]);
  const usual = (PRESETS[view.series?.modality] || []).map(([label, center, width]) => [`${label} ${center}/${width}`, `${center} ${width}`]);
  const wanted = [["Own window", "own"], ...others, ...usual];
  if (own) {
    const { center, width, function: how } = view.firstKnown ||= own;
    wanted.push(["Wide", `${center} ${width * 2} ${how}`], ["Narrow", `${center} ${width / 2} ${how}`]);
  }
  const name = JSON.stringify(wanted);
  if (presetBox.dataset.filled !== name) {
    presetBox.dataset.filled = name;
    const manual = new Option("Manual", "");
    manual.hidden = true;
    presetBox.replaceChildren(...wanted.map(([label, value]) => new Option(label, value)), manual);
    const rows = wanted.slice(0, 9).map(([label], at) => helpRow(String(at + 1), label));
    document.getElementById("preset-keys").replaceChildren(...rows);
  }
  presetBox.value = view.preset;
}

function helpRow(key, what) {
  const row = made("div");
  const term = made("dt");
  term.append(made("kbd", "", key));
  row.append(term, made("dd", "", what));
  return row;
}

// Shows the state of the active pane in the toolbar, and hides what does not apply.
function changed(pane) {
  if (pane !== view || !pane.slice) return;
  const slice = pane.slice;
  const picture = !slice.document;
  const many = pane.slices.length > 1;
  const grey = picture && !pane.colour;
  document.getElementById("remove-measure").disabled = !measuresOf(pane).length;
  const shown = { picture, grey, many: picture && many, scrolls: many, overlays: picture && Boolean(slice.about?.overlays || pane.about?.overlays) };
  for (const each of document.querySelectorAll("[data-for]")) each.hidden = !shown[each.dataset.for];
  if (!grey && tool === "window") setTool(many && matchMedia("(pointer: coarse)").matches ? "scroll" : "pan");
  if (!many && tool === "scroll") setTool(grey ? "window" : "pan");
  position.max = pane.slices.length;
  position.value = pane.at + 1;
  position.setAttribute("aria-valuetext", `${pane.at + 1} of ${pane.slices.length}`);
  pressed("invert", pane.invert);
  pressed("overlays", pane.overlays);
  pressed("play", pane.playing);
  document.querySelector("#play .word").textContent = pane.playing ? "Pause" : "Play";
  document.querySelector("#play .sign").textContent = pane.playing ? "❚❚" : "▶";
  document.getElementById("elements").href = `/instances/${encodeURIComponent(slice.uid)}`;
  fillPresets();
}

function rate(about) {
  if (about?.frame_time_ms && !fpsBox.dataset.asked) fpsBox.value = Math.max(1, Math.min(60, Math.round(1000 / about.frame_time_ms)));
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.querySelector(".stage").requestFullscreen?.().catch(() => toast("The browser does not allow full screen.", "", true));
}

// Pointers: a mouse, a pen, fingers

function pointOf(pane, event) {
  const box = pane.element.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function listen(pane) {
  const { element } = pane;
  const fingers = new Map(); // that are down
  let drag = null;
  let turned = 0;
  element.addEventListener("wheel", (event) => {
    if (event.target.closest(".document")) return;
    event.preventDefault();
    activate(pane);
    if (event.ctrlKey) { pane.zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...pointOf(pane, event)); return; }
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(turned / 40);
    if (steps) { turned -= steps * 40; scrollPane(pane, Math.sign(steps) * Math.min(3, Math.abs(steps))); }
  }, { passive: false });
  element.addEventListener("pointerdown", (event) => {
    activate(pane);
    if (event.target.closest(".document") || !pane.slice) return;
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, pointOf(pane, event));
    if (fingers.size > 1) { drag = null; pane.pending = null; return; } // a pinch
    const used = event.button === 1 || event.shiftKey ? "pan" : event.button === 2 ? "zoom" : tool;
    drag = { tool: used, at: pointOf(pane, event), rest: 0, window: pane.window || pane.ownWindow() || pane.known };
    if (POINTS[used]) measureStep(pane, used, "down", drag.at);
  });
  element.addEventListener("pointermove", (event) => {
    const at = pointOf(pane, event);
    pane.text("probe").textContent = event.pointerType === "mouse" ? pane.valueAt(at) : "";
    if (fingers.size > 1 && fingers.has(event.pointerId)) { pinch(pane, fingers, event.pointerId, at); return; }
    if (!drag) { if (pane.pending) measureStep(pane, pane.pending.kind, "move", at); return; }
    const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
    drag.at = at;
    dragged(pane, drag, dx, dy);
  });
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    if (drag && POINTS[drag.tool]) measureStep(pane, drag.tool, "up", pointOf(pane, event));
    drag = null;
    if (pane.dragging) { pane.dragging = false; pane.show(); }
  });
  element.addEventListener("pointerleave", () => { pane.text("probe").textContent = ""; });
  element.addEventListener("contextmenu", (event) => { if (!event.target.closest(".document")) event.preventDefault(); });
  element.addEventListener("dblclick", (event) => { if (!POINTS[tool] && !event.target.closest(".document")) pane.reset(); });
}

// Two fingers: their distance zooms, their middle moves.
function pinch(pane, fingers, moved, at) {
  const middle = () => { const [one, other] = [...fingers.values()]; return [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2]; };
  const distance = () => { const [one, other] = [...fingers.values()]; return Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1])); };
  const [before, apart] = [middle(), distance()];
  fingers.set(moved, at);
  const after = middle();
  pane.move(after[0] - before[0], after[1] - before[1]);
  pane.zoomBy(distance() / apart, ...after);
}

function dragged(pane, drag, dx, dy) {
  if (POINTS[drag.tool]) { measureStep(pane, drag.tool, "move", drag.at); return; }
  if (drag.tool === "pan") { pane.move(dx, dy); return; }
  if (drag.tool === "zoom") { pane.zoomBy(1.01 ** -dy); return; }
  if (drag.tool === "scroll") {
    drag.rest += dy;
    const pixels = Math.max(2, Math.min(24, pane.size.height / pane.slices.length)); // for one slice
    const steps = Math.trunc(drag.rest / pixels);
    if (steps) { drag.rest -= steps * pixels; scrollPane(pane, steps); }
    return;
  }
  if (!drag.window || pane.colour) return;
  pane.dragging = true;
  const { center, width } = drag.window;
  const speed = width > 10 ? Math.max(0.5, width / 400) : width / 400; // by half values, or by parts of a small range
  drag.window = { ...drag.window, center: center + dy * speed, width: Math.max(width > 10 ? 1 : width / 2, width + dx * speed) };
  pane.preset = "";
  pane.setWindow(drag.window.center, drag.window.width, drag.window.function);
}

// Keys

const KEYS = {
  ArrowDown: () => scrollPane(view, 1), ArrowRight: () => scrollPane(view, 1), ArrowUp: () => scrollPane(view, -1), ArrowLeft: () => scrollPane(view, -1),
  PageDown: () => scrollPane(view, 10), PageUp: () => scrollPane(view, -10), Home: () => scrollPane(view, -Infinity), End: () => scrollPane(view, Infinity),
  " ": () => play(!view.playing), "+": () => view.zoomBy(1.2), "-": () => view.zoomBy(1 / 1.2),
  w: () => setTool("window"), m: () => setTool("pan"), z: () => setTool("zoom"), s: () => setTool("scroll"), l: () => setTool("length"), a: () => setTool("angle"),
  r: () => view.reset(), i: invert, o: () => showOverlays(!view.overlays), t: () => view.turnBy(rotated), h: () => view.turnBy(flipped), v: () => view.turnBy(upended),
  f: fullScreen, g: () => setLayout(panes.length === 1), k: () => setLinked(!linked), Delete: () => removeMeasure(view), Backspace: () => removeMeasure(view),
  "?": () => helpSheet.showModal(), Escape: () => { view.pending = null; drawMarks(view); },
};
const OF_PICTURES = new Set(["w", "z", "l", "a", "i", "o", "t", "h", "v", "r", "+", "-", "Delete", "Backspace"]);

document.addEventListener("keydown", (event) => {
  if (helpSheet.open || event.ctrlKey || event.altKey || event.metaKey || !view.slice) return;
  const { target, key } = event;
  if (target.closest("select, textarea, input:not([type=range]), video")) return;
  if (target.closest("button, a, summary, input") && (key === " " || key === "Enter")) return; // they do what they are for
  if (target.closest("input[type=range], .document") && /^(Arrow|Page|Home|End| )/.test(key)) return;
  const name = KEYS[key] ? key : key.toLowerCase();
  if (view.slice.document && OF_PICTURES.has(name)) return;
  const choice = /^[1-9]$/.test(key) && !view.slice.document && !view.colour && presetBox.options[Number(key) - 1];
  if (choice && choice.value) { event.preventDefault(); presetBox.value = choice.value; preset(choice.value); return; }
  if (KEYS[name]) { event.preventDefault(); KEYS[name](); }
});

// The toolbar. After a click with the pointer the keys belong to the picture again.
const BUTTONS = {
  invert, overlays: () => showOverlays(!view.overlays), reset: () => view.reset(), play: () => play(!view.playing),
  rotate: () => view.turnBy(rotated), flip: () => view.turnBy(flipped), full: fullScreen, layout: () => setLayout(panes.length === 1),
  link: () => setLinked(!linked), keys: () => helpSheet.showModal(), "remove-measure": () => removeMeasure(view),
};

function listenToTools() {
  for (const [id, action] of Object.entries(BUTTONS)) document.getElementById(id).addEventListener("click", action);
  for (const button of document.querySelectorAll(".tools [data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
  document.querySelector(".tools").addEventListener("click", (event) => { if (event.detail && event.target.closest("button") && !helpSheet.open) view.element.focus(); });
  fpsBox.addEventListener("input", () => { fpsBox.dataset.asked = "true"; });
  presetBox.addEventListener("change", () => { preset(presetBox.value); view.element.focus(); });
  position.addEventListener("input", () => scrollPane(view, position.value - 1 - view.at));
  document.getElementById("help-close").addEventListener("click", () => helpSheet.close());
  helpSheet.addEventListener("close", () => view.element.focus());
}
