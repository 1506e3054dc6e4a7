// The viewer for a quick look at one series, or at four: its panes, and how they scroll together.
"use strict";

const root = document.getElementById("viewer");
const screens = document.getElementById("screens");
const position = document.getElementById("position");
const MOST_PANES = 4;
const MOST_LOOKS = 24; // slices asked for their place, to find the one at a place
const panes = [];
let view = null; // the pane that is active
let linked = false;

function seriesOf(link) {
  const { series, key, modality, title } = link.dataset;
  return { uid: series, key, modality, title };
}

function seriesLinks() { return [...document.querySelectorAll(".strip .picture")]; }

function addPane(element) {
  const pane = new Pane(element);
  panes.push(pane);
  element.dataset.tool = tool;
  element.addEventListener("focus", () => activate(pane));
  listen(pane);
  return pane;
}

function activate(pane) {
  if (view === pane) return;
  view = pane;
  for (const each of panes) each.element.classList.toggle("active", each === pane);
  for (const link of seriesLinks()) {
    if (link.dataset.series === pane.series?.uid && link.dataset.key === pane.series?.key) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  changed(pane);
}

// One pane, or four: those that are added show the series that follow in the study.
async function setLayout(four) {
  pressed("layout", four);
  screens.classList.toggle("four", four);
  document.getElementById("link").hidden = !four;
  if (!four) {
    setLinked(false);
    const left = view;
    for (const pane of panes.splice(0)) {
      if (pane === left) { panes.push(pane); continue; }
      play(false, pane);
      pane.clear();
      pane.element.remove();
    }
    view = null;
    activate(left);
    left.paint();
    return;
  }
  const links = seriesLinks();
  const first = links.findIndex((link) => link.dataset.series === view.series.uid);
  const loads = [];
  while (panes.length < MOST_PANES) {
    const element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    element.setAttribute("aria-label", `Image ${panes.length + 1}`);
    screens.append(element);
    const pane = addPane(element);
    const link = links[first + panes.length - 1];
    if (link) loads.push(pane.load(seriesOf(link)).catch((error) => { pane.message.textContent = error.message; }));
    else pane.message.textContent = "Choose a series for this place.";
  }
  for (const pane of panes) pane.paint();
  await Promise.all(loads);
}

// Scrolling, in one pane or in all that are linked

function setLinked(on) {
  linked = on;
  pressed("link", on);
  if (on) follow(view);
}

function scrollPane(pane, steps) {
  if (!pane.slice) return;
  const before = pane.at;
  pane.go(pane.at + steps);
  if (!linked || pane.at === before) return;
  const moved = pane.at - before;
  for (const other of panes) {
    if (other === pane || !other.slice) continue;
    if (!areParallel(pane.about, other.about)) other.go(other.at + moved);
  }
  follow(pane);
}

// Shows in the linked panes the slices that lie where the one of this pane lies. Panes of another
// orientation, or without positions, go by as many slices instead.
let followed = 0;
async function follow(pane) {
  const mine = ++followed;
  const about = await aboutOf(pane.slice).catch(() => null);
  for (const other of panes) {
    if (other === pane || !other.slice || mine !== followed || !about || !areParallel(about, other.about)) continue;
    const at = await nearest(other, about).catch(() => null);
    if (at !== null && linked && mine === followed) other.go(at);
  }
}

// The slice of a pane that lies nearest to another one; null if its slices are not in order.
async function nearest(pane, about) {
  const { slices } = pane;
  const normal = normalOf(about.orientation);
  const place = async (at) => alongNormal(await aboutOf(slices[at]), normal);
  const wanted = alongNormal(about, normal);
  let [low, high] = [0, slices.length - 1];
  const [first, last] = [await place(low), await place(high)];
  if (first === null || last === null || first === last) return null;
  const upwards = last > first;
  for (let look = 0; look < MOST_LOOKS && high - low > 1; look += 1) {
    const middle = (low + high) >> 1;
    const found = await place(middle);
    if (found === null || (found - first) * (found - last) > 0) return null; // outside: not in order
    if (found < wanted === upwards) low = middle; else high = middle;
  }
  return Math.abs(await place(low) - wanted) <= Math.abs(await place(high) - wanted) ? low : high;
}

// A series of the study: the link leads to it, or with four panes it is shown in the active one.
document.querySelector(".strip").addEventListener("click", (event) => {
  const link = event.target.closest(".picture");
  if (!link || panes.length === 1 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const pane = view;
  play(false, pane);
  pane.load(seriesOf(link)).then(() => { if (view === pane) { view = null; activate(pane); } }).catch((error) => { pane.message.textContent = error.message; });
  pane.element.focus();
});

async function load() {
  const pane = addPane(screens.querySelector(".screen"));
  view = pane;
  pane.element.classList.add("active");
  setTool(tool);
  listenToTools();
  await pane.load(seriesOf(root), new URLSearchParams(location.search).get("instance"));
  rate(pane.about);
  changed(pane);
  root.dataset.ready = "true";
  pane.element.focus();
}

load().catch((error) => { document.getElementById("message").textContent = error.message; });
