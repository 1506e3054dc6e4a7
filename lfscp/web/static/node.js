// Draws the pool as it is now: the leader, the followers, and the processors with their peers.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MOST = 8; // processors drawn one by one

function draw(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function cap(words, value, none) { return value === none ? "no limit" : `${words} ${value}`; }

// The parts of the drawing; each is drawn at a place that the layout gives it.

function network(svg, x, y, node, count) {
  draw(svg, "rect", { x, y, width: 170, height: 92, rx: 10, class: "box" });
  draw(svg, "text", { x: x + 85, y: y + 30, "text-anchor": "middle" }, `${node.host}:${node.port}`);
  draw(svg, "text", { x: x + 85, y: y + 50, "text-anchor": "middle", class: "dim" }, `backlog ${node.backlog}`);
  draw(svg, "text", { x: x + 85, y: y + 70, "text-anchor": "middle", class: "dim" }, `associations ${count}, ${cap("at most", node.max_associations, 0)}`);
}

function arrow(svg, x, y, length, down) {
  draw(svg, "path", { d: down ? `M${x} ${y} V${y + length}` : `M${x} ${y} H${x + length}`, class: "arrow" });
  const [tipX, tipY] = down ? [x, y + length] : [x + length, y];
  draw(svg, "path", { d: down ? `M${tipX - 5} ${tipY - 8} L${tipX} ${tipY} L${tipX + 5} ${tipY - 8}` : `M${tipX - 8} ${tipY - 5} L${tipX} ${tipY} L${tipX - 8} ${tipY + 5}`, class: "arrow" });
}

function leader(svg, x, y, state) {
  draw(svg, "circle", { cx: x, cy: y, r: 46, class: state.leader ? "leader" : "free" });
  if (state.leader) {
    draw(svg, "text", { x, y: y - 2, class: "leader-text" }, "waits for a");
    draw(svg, "text", { x, y: y + 14, class: "leader-text" }, "connection");
    draw(svg, "text", { x, y: y + 66, "text-anchor": "middle", class: "dim" }, state.leader);
  } else {
    draw(svg, "text", { x, y: y + 5, "text-anchor": "middle", class: "dim" }, state.is_shutdown ? "shut down" : "none");
  }
}

function followers(svg, x, y, state, columns, most) {
  const drawn = Math.min(state.waiting, most);
  for (let k = 0; k < drawn; k += 1) {
    draw(svg, "circle", { cx: x + 12 + (k % columns) * 27, cy: y + Math.floor(k / columns) * 27, r: 10, class: "follower" });
  }
  if (!drawn) draw(svg, "text", { x: x + 4, y: y + 5, class: "dim" }, "none");
  if (state.waiting > drawn) draw(svg, "text", { x: x + 4, y: y + Math.ceil(drawn / columns) * 27 + 4, class: "dim" }, `and ${state.waiting - drawn} more`);
}

function processor(svg, x, y, peer, width) {
  draw(svg, "circle", { cx: x + 16, cy: y, r: 15, class: "processor" });
  draw(svg, "path", { d: `M${x + 31} ${y} H${x + 60}`, class: "wire" });
  draw(svg, "rect", { x: x + 60, y: y - 19, width, height: 38, rx: 8, class: "box" });
  draw(svg, "text", { x: x + 72, y: y - 2 }, peer ? `${peer.calling_ae_title || "?"}${peer.service ? " · " + peer.service : ""}` : "connecting");
  draw(svg, "text", { x: x + 72, y: y + 13, class: "dim" }, peer ? peer.peer : "");
}

function head(svg, x, y, words, limits) {
  draw(svg, "text", { x, y, class: "head" }, words);
  if (limits) draw(svg, "text", { x, y: y + 16, class: "dim" }, limits);
}

function count(state) { return Math.max(state.associations.length, state.running - (state.leader ? 1 : 0)); }

function limitOfRunning(state) { return `running ${state.running}, ${cap("at most", state.max_running, 0)}`; }

/** From left to right, on a screen that is wide enough. */
function wide(svg, node, state) {
  const processors = count(state);
  const shown = Math.min(processors, MOST);
  const height = Math.max(190, 70 + Math.max(shown, 1) * 46);
  svg.setAttribute("viewBox", `0 0 960 ${height}`);
  const middle = height / 2 + 14;
  head(svg, 20, 26, "Network");
  network(svg, 20, middle - 46, node, state.associations.length);
  arrow(svg, 190, middle, 74, false);
  head(svg, 270, 26, "Leader");
  leader(svg, 315, middle, state);
  head(svg, 400, 26, `Followers ${state.waiting}`, cap("at most", state.max_waiting, -1));
  const drawn = Math.min(state.waiting, 20);
  followers(svg, 400, middle - (Math.ceil(Math.max(drawn, 1) / 5) - 1) * 13, state, 5, 20);
  head(svg, 580, 26, `Processors ${processors}`, limitOfRunning(state));
  for (let k = 0; k < shown; k += 1) processor(svg, 580, middle + (k - (shown - 1) / 2) * 46, state.associations[k], 300);
  if (!shown) draw(svg, "text", { x: 584, y: middle + 5, class: "dim" }, "no associations");
  if (processors > shown) draw(svg, "text", { x: 640, y: height - 6, class: "dim" }, `and ${processors - shown} more`);
}

/** From top to bottom, on a phone. */
function narrow(svg, node, state) {
  const processors = count(state);
  const shown = Math.min(processors, MOST);
  head(svg, 8, 18, "Network");
  network(svg, 95, 28, node, state.associations.length);
  arrow(svg, 180, 120, 34, true);
  head(svg, 8, 146, "Leader");
  leader(svg, 180, 202, state);
  head(svg, 8, 296, `Followers ${state.waiting}`, cap("at most", state.max_waiting, -1));
  followers(svg, 8, 332, state, 12, 36);
  const rows = Math.ceil(Math.min(Math.max(state.waiting, 1), 36) / 12) + (state.waiting > 36 ? 1 : 0);
  const top = 340 + rows * 27;
  head(svg, 8, top, `Processors ${processors}`, limitOfRunning(state));
  for (let k = 0; k < shown; k += 1) processor(svg, 8, top + 48 + k * 46, state.associations[k], 276);
  if (!shown) draw(svg, "text", { x: 12, y: top + 42, class: "dim" }, "no associations");
  let bottom = top + 56 + Math.max(shown - 0.5, 0) * 46;
  if (processors > shown) { bottom += 18; draw(svg, "text", { x: 12, y: bottom - 4, class: "dim" }, `and ${processors - shown} more`); }
  svg.setAttribute("viewBox", `0 0 360 ${bottom}`);
}

function picture(svg, node, state) {
  svg.replaceChildren();
  const isNarrow = matchMedia("(max-width: 700px)").matches;
  svg.classList.toggle("narrow", isNarrow);
  (isNarrow ? narrow : wide)(svg, node, state);
}

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

function table(processes) {
  const body = document.getElementById("associations");
  body.replaceChildren();
  for (const process of processes) for (const each of process.associations) {
    const row = body.insertRow();
    const since = duration(Math.max(0, Date.now() / 1000 - each.since));
    for (const [text, kind] of [[each.serial, "num more-room"], [each.calling_ae_title, "mono"], [each.called_ae_title, "mono more-room"], [each.peer, "mono"], [each.service, ""], [each.thread, "mono dim more-room"], [since, "num"]]) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (kind) cell.className = kind;
    }
  }
  if (!body.rows.length) {
    const cell = body.insertRow().insertCell();
    cell.colSpan = 7;
    cell.className = "empty";
    cell.textContent = "No open associations.";
  }
}

let latest = null;

function show() {
  if (!latest) return;
  const panels = document.querySelectorAll(".pool-panel");
  latest.processes.forEach((process, k) => {
    if (!panels[k]) return;
    panels[k].querySelector(".pool-text").textContent = process.text;
    picture(panels[k].querySelector("svg"), latest, process);
  });
  table(latest.processes);
}

matchMedia("(max-width: 700px)").addEventListener("change", show);
document.addEventListener("lfscp:node", (event) => { latest = event.detail; show(); });
setInterval(() => { if (latest) table(latest.processes); }, 5000);
