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

function picture(svg, node, state) {
  svg.replaceChildren();
  const serving = state.associations;
  const processors = Math.max(serving.length, state.running - (state.leader ? 1 : 0));
  const shown = Math.min(processors, MOST);
  const height = Math.max(190, 70 + Math.max(shown, 1) * 46);
  svg.setAttribute("viewBox", `0 0 960 ${height}`);
  const middle = height / 2 + 14;

  // the listening socket
  draw(svg, "text", { x: 20, y: 26, class: "head" }, "Network");
  draw(svg, "rect", { x: 20, y: middle - 46, width: 170, height: 92, rx: 10, class: "box" });
  draw(svg, "text", { x: 105, y: middle - 16, "text-anchor": "middle" }, `${node.host}:${node.port}`);
  draw(svg, "text", { x: 105, y: middle + 4, "text-anchor": "middle", class: "dim" }, `backlog ${node.backlog}`);
  draw(svg, "text", { x: 105, y: middle + 24, "text-anchor": "middle", class: "dim" }, `associations ${serving.length}, ${cap("at most", node.max_associations, 0)}`);
  draw(svg, "path", { d: `M190 ${middle} H262`, class: "arrow" });
  draw(svg, "path", { d: `M256 ${middle - 5} L264 ${middle} L256 ${middle + 5}`, class: "arrow" });

  // the leader
  draw(svg, "text", { x: 270, y: 26, class: "head" }, "Leader");
  draw(svg, "circle", { cx: 315, cy: middle, r: 46, class: state.leader ? "leader" : "free" });
  if (state.leader) {
    draw(svg, "text", { x: 315, y: middle - 2, class: "leader-text" }, "waits for a");
    draw(svg, "text", { x: 315, y: middle + 14, class: "leader-text" }, "connection");
    draw(svg, "text", { x: 315, y: middle + 66, "text-anchor": "middle", class: "dim" }, state.leader);
  } else {
    draw(svg, "text", { x: 315, y: middle + 5, "text-anchor": "middle", class: "dim" }, state.is_shutdown ? "shut down" : "none");
  }

  // the followers
  draw(svg, "text", { x: 400, y: 26, class: "head" }, `Followers ${state.waiting}`);
  draw(svg, "text", { x: 400, y: 42, class: "dim" }, cap("at most", state.max_waiting, -1));
  draw(svg, "text", { x: 580, y: 42, class: "dim" }, `running ${state.running}, ${cap("at most", state.max_running, 0)}`);
  const columns = 5;
  const drawn = Math.min(state.waiting, 40);
  const top = middle - (Math.ceil(Math.max(drawn, 1) / columns) - 1) * 13;
  for (let k = 0; k < drawn; k += 1) {
    draw(svg, "circle", { cx: 412 + (k % columns) * 27, cy: top + Math.floor(k / columns) * 27, r: 10, class: "follower" });
  }
  if (!drawn) draw(svg, "text", { x: 404, y: middle + 5, class: "dim" }, "none");
  if (state.waiting > drawn) draw(svg, "text", { x: 404, y: height - 14, class: "dim" }, `and ${state.waiting - drawn} more`);

  // the processors and their peers
  draw(svg, "text", { x: 580, y: 26, class: "head" }, `Processors ${processors}`);
  for (let k = 0; k < shown; k += 1) {
    const y = middle + (k - (shown - 1) / 2) * 46;
    const peer = serving[k];
    draw(svg, "circle", { cx: 596, cy: y, r: 15, class: "processor" });
    draw(svg, "path", { d: `M611 ${y} H690`, class: "wire" });
    draw(svg, "rect", { x: 690, y: y - 19, width: 250, height: 38, rx: 8, class: "box" });
    draw(svg, "text", { x: 702, y: y - 2 }, peer ? `${peer.calling_ae_title || "?"}${peer.service ? " · " + peer.service : ""}` : "connecting");
    draw(svg, "text", { x: 702, y: y + 13, class: "dim" }, peer ? peer.peer : "");
  }
  if (!shown) draw(svg, "text", { x: 584, y: middle + 5, class: "dim" }, "no associations");
  if (processors > shown) draw(svg, "text", { x: 690, y: height - 12, class: "dim" }, `and ${processors - shown} more`);
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
    for (const [text, kind] of [[each.serial, "num"], [each.calling_ae_title, "mono"], [each.called_ae_title, "mono"], [each.peer, "mono"], [each.service, ""], [each.thread, "mono dim"], [since, "num"]]) {
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

document.addEventListener("lfscp:node", (event) => { latest = event.detail; show(); });
setInterval(() => { if (latest) table(latest.processes); }, 5000);
