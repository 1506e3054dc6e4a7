// Draws on a picture what is no part of it: measurements, the scale bar, the patient's sides.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = { length: 2, angle: 3 };

function drawn(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

function measuresOf(pane) {
  const name = `${pane.slice.uid} ${pane.slice.frame}`;
  if (!pane.measures.has(name)) pane.measures.set(name, []);
  return pane.measures.get(name);
}

function drawMarks(pane) {
  const { marks, size } = pane;
  marks.replaceChildren();
  marks.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
  if (!pane.shown || pane.shown.slice !== pane.slice) return;
  const about = pane.slice.about;
  const { shape, place } = pane;
  if (about) { drawLetters(pane, about); drawBar(pane, about, place); }
  const pending = pane.pending ? [pane.pending] : [];
  for (const each of [...measuresOf(pane), ...pending]) drawMeasure(pane, each, about, place, shape);
}

function drawMeasure(pane, { kind, points }, about, place, shape) {
  const ends = points.map((point) => toScreen(pane, place, shape, point));
  const line = ends.map((point) => point.map((part) => part.toFixed(1)).join(",")).join(" ");
  pane.marks.append(drawn("polyline", { points: line, class: "measure" }));
  for (const [x, y] of ends) pane.marks.append(drawn("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 3, class: "measure" }));
  if (points.length < POINTS[kind]) return;
  const text = kind === "length" ? lengthText(about, points) : angleText(about, points);
  const [x, y] = ends[1];
  const onLeft = x > pane.size.width * 0.7;
  pane.marks.append(drawn("text", { x: x + (onLeft ? -8 : 8), y: y - 8, "text-anchor": onLeft ? "end" : "start", class: "measure" }, text));
}

function drawLetters(pane, about) {
  const letters = edgeLetters(about, pane.turn);
  if (!letters) return;
  const { width, height } = pane.size;
  const at = { left: [10, height / 2, "start"], right: [width - 10, height / 2, "end"], top: [width / 2, 20, "middle"], bottom: [width / 2, height - 40, "middle"] };
  for (const [side, [x, y, anchor]] of Object.entries(at)) {
    pane.marks.append(drawn("text", { x, y, "text-anchor": anchor, class: `side ${side}` }, letters[side]));
  }
}

function drawBar(pane, about, place) {
  const { width, height } = pane.size;
  const [middle, y] = [width / 2, height - 12];
  const bar = scaleBar(about, pane.turn, place.factor, width / 4);
  if (!bar) {
    pane.marks.append(drawn("text", { x: middle, y, "text-anchor": "middle", class: "bar" }, "size not known"));
    return;
  }
  const [left, right] = [middle - bar.pixels / 2, middle + bar.pixels / 2];
  pane.marks.append(drawn("path", { d: `M${left} ${y - 8}V${y}H${right}V${y - 8}`, class: "bar", "data-pixels": bar.pixels }));
  pane.marks.append(drawn("text", { x: middle, y: y - 5, "text-anchor": "middle", class: "bar" }, bar.text));
}

// A press, a move or a release of the pointer with a tool that measures.
function measureStep(pane, tool, step, point) {
  if (!pane.shown) return;
  const at = toPicture(pane, pane.place, pane.shape, point);
  const { pending } = pane;
  if (step === "down") {
    if (pending?.kind === tool) { pending.points.at(-1).splice(0, 2, ...at); if (pending.points.length < POINTS[tool]) pending.points.push([...at]); else finish(pane); }
    else pane.pending = { kind: tool, points: [at, [...at]] };
  } else if (pending) {
    pending.points.at(-1).splice(0, 2, ...at);
    if (step === "up" && tool === "length" && isLong(pane, pending.points)) finish(pane);
  }
  drawMarks(pane);
}

function isLong(pane, [from, to]) {
  const [one, other] = [from, to].map((point) => toScreen(pane, pane.place, pane.shape, point));
  return Math.hypot(one[0] - other[0], one[1] - other[1]) > 4;
}

function finish(pane) {
  measuresOf(pane).push(pane.pending);
  pane.pending = null;
  changed(pane);
}

function removeMeasure(pane) {
  if (!pane.slice) return;
  if (pane.pending) pane.pending = null; else measuresOf(pane).pop();
  drawMarks(pane);
  changed(pane);
}
