// Shows what has no picture: reports as text, waveforms as curves, documents and videos.
"use strict";

const ROOT = "1.2.840.10008.5.1.4.1.1.";
const DOCUMENTS = { 1: "PDF", 2: "CDA document", 3: "STL model", 4: "OBJ model", 5: "MTL file" }; // of encapsulated documents
const VIDEO = /^1\.2\.840\.10008\.1\.2\.4\.(10[0-8])(\.1)?$/; // transfer syntaxes

function documentKind(row) {
  const uid = row.sop_class_uid;
  if (uid.startsWith(`${ROOT}88.`)) return "report";
  if (uid.startsWith(`${ROOT}9.`)) return "waveform";
  if (DOCUMENTS[uid.slice(`${ROOT}104.`.length)] && uid.startsWith(`${ROOT}104.`)) return DOCUMENTS[uid.slice(`${ROOT}104.`.length)];
  return VIDEO.test(row.transfer_syntax_uid) ? "video" : "";
}

function made(name, className = "", text = "", attributes = {}) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Puts the document of a slice over its pane; takes away the one before.
async function showDocument(pane, slice) {
  const before = pane.element.querySelector(".document");
  if (before && before.dataset.uid === slice.uid) return;
  before?.remove();
  pane.element.classList.toggle("with-document", Boolean(slice.document));
  if (!slice.document) return;
  const box = made("div", "document", "", { tabindex: "0", role: "region", "aria-label": "Document" });
  box.dataset.uid = slice.uid;
  pane.element.append(box);
  const shown = { report: showReport, waveform: showWaveforms, video: showVideo }[slice.document] || showFile;
  try { await shown(box, pane, slice); } catch (error) { box.replaceChildren(made("p", "problem", error.message)); }
  box.dataset.ready = "true";
}

function renderedPath(pane, slice) {
  const part = (name, uid) => `${name}/${encodeURIComponent(uid)}`;
  return `/dicom-web/${part("studies", root.dataset.study)}/${part("series", pane.series.uid)}/${part("instances", slice.uid)}/rendered`;
}

// Reports

// A DICOM date, or date and time, for people; fractions and the zone stay as they are.
function dated(text) {
  const [all, year, month, day, hours, minutes, seconds] = text.match(/^(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?/) || [];
  if (!all) return text;
  const date = [year, month, day].filter(Boolean).join("-");
  const time = [hours, minutes, seconds].filter(Boolean).join(":");
  return (time ? `${date} ${time}` : date) + text.slice(all.length);
}

const READABLE = {
  DATETIME: dated, DATE: dated,
  TIME: (text) => text.replace(/^(\d\d)(\d\d)(\d\d)?/, (_, hours, minutes, seconds) => [hours, minutes, seconds].filter(Boolean).join(":")),
  PNAME: (text) => text.split("^").filter(Boolean).join(", "),
};

async function showReport(box, pane, slice) {
  const report = await ask(`${instancePath(slice)}/report`);
  box.classList.add("report");
  const facts = [report.completion.toLowerCase(), report.verification.toLowerCase(), dated(report.content_date)].filter(Boolean);
  if (facts.length) box.append(made("p", "dim", facts.join(" · ")));
  for (const each of report.observers) {
    const [name, when] = each.split(/ (?=\d{8})/);
    box.append(made("p", "dim", `Verified by ${READABLE.PNAME(name)}${when ? `, ${dated(when)}` : ""}`));
  }
  const lists = [made("ul", "tree")]; // by depth
  box.append(lists[0]);
  for (const line of report.lines) {
    const item = lineOf(line);
    lists[line.depth].append(item);
    lists[line.depth + 1] = made("ul");
    item.append(lists[line.depth + 1]);
  }
  for (const list of box.querySelectorAll("ul:empty")) list.remove();
  if (report.lines.length === 1 && !report.left_out) box.append(made("p", "dim", "This report has no content."));
  if (report.left_out) box.append(made("p", "problem", report.left_out));
}

function lineOf(line) {
  const item = made("li", line.value_type === "CONTAINER" ? "container" : "");
  if (line.relationship && line.relationship !== "CONTAINS") item.append(made("span", "relationship", `${line.relationship.toLowerCase()} `));
  if (line.name) item.append(made("b", "", line.name, line.code ? { title: line.code } : {}));
  if (line.code && line.value_type !== "CONTAINER") item.append(made("span", "code", ` ${line.code}`));
  const read = READABLE[line.value_type] || ((text) => text);
  const value = read(line.value) + (line.units ? ` ${line.units}` : "");
  if (value) item.append(line.name ? ": " : "", made("span", "said", value));
  if (line.value_code) item.append(made("span", "code", ` ${line.value_code}`));
  if (line.reference) item.append(" ", made("a", "", "object", { href: `/instances/${encodeURIComponent(line.reference)}`, title: line.reference }));
  return item;
}

// Waveforms

const MM = 4; // pixels of the screen: paper at 25 mm/s and 10 mm/mV
const SECONDS = 10; // at a time
const POINTS_AT_ONCE = 4000;
const PER_MILLIVOLT = { mV: 1, uV: 1000, V: 0.001, nV: 1e6 };

async function showWaveforms(box, pane, slice) {
  const found = await ask(`${instancePath(slice)}/waveforms`);
  box.classList.add("waveforms");
  if (found.annotations.length) {
    const details = made("details", "annotations");
    details.open = found.annotations.length <= 24;
    details.append(made("summary", "", `Annotations (${found.annotations.length})`));
    const list = made("ul");
    list.append(...found.annotations.map((each) => made("li", "", each)));
    details.append(list);
    box.append(details);
  }
  for (const [at, group] of found.groups.entries()) await showGroup(box, slice, group, at + 1);
  if (!found.groups.length) box.append(made("p", "problem", "This object has no waveforms."));
}

async function showGroup(box, slice, group, number) {
  const part = made("section");
  box.append(part);
  const seconds = group.frequency_hz > 0 ? group.samples / group.frequency_hz : 0;
  const facts = [group.originality.toLowerCase(), `${group.frequency_hz} Hz`, `${Number(seconds.toFixed(3))} s`].filter(Boolean);
  part.append(made("h2", "", group.label || `Group ${number}`), made("p", "dim", facts.join(" · ")));
  if (group.omission) part.append(made("p", "problem", group.omission));
  if (!group.samples) return;
  const paper = made("div", "paper", "", { tabindex: "0", role: "img", "aria-label": `Curves of ${group.channels.length} channels` });
  const draw = async (start) => {
    const query = new URLSearchParams({ start, seconds: SECONDS, points: POINTS_AT_ONCE });
    const curves = await ask(`${instancePath(slice)}/waveforms/${number}?${query}`);
    paper.replaceChildren(curvesOf(group, curves, `${slice.uid}-${number}`));
  };
  if (seconds > SECONDS) part.append(startChoice(seconds, draw));
  part.append(paper);
  await draw(0);
}

// A slider for the second to begin with; only the newest place is fetched.
function startChoice(seconds, draw) {
  const label = made("label", "start", "From ");
  const slider = made("input", "", "", { type: "range", min: 0, max: Math.max(0, Math.ceil(seconds - SECONDS)), step: 1, value: 0 });
  const text = made("output", "", "0 s");
  let [wanted, busy] = [null, false];
  slider.addEventListener("input", async () => {
    wanted = slider.value;
    text.textContent = `${wanted} s`;
    if (busy) return;
    busy = true;
    try {
      while (wanted !== null) { const start = wanted; wanted = null; await draw(start); }
    } catch (error) { toast(error.message, "", true); } finally { busy = false; }
  });
  label.append(slider, text);
  return label;
}

// How a channel is drawn: pixels for each unit, the values at its top and bottom, and how high it is.
function rowOf(channel, points) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of points) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) [low, high] = [0, 0];
  const millivolt = PER_MILLIVOLT[channel.units];
  if (millivolt) {
    const factor = 10 * MM / millivolt;
    const whole = (value, round) => round(value / millivolt * 2) / 2 * millivolt; // to half a mV
    const [bottom, top] = [Math.max(whole(Math.min(low, 0), Math.floor), -10 * millivolt), Math.min(whole(Math.max(high, 0), Math.ceil), 10 * millivolt)];
    return { factor, top, low, high, height: Math.max(15 * MM, (top - bottom) * factor) };
  }
  const height = 30 * MM;
  return { factor: high > low ? (height - 8) / (high - low) : 1, top: high + (high > low ? 4 / ((height - 8) / (high - low)) : height / 2), low, high, height, own: true };
}

function curvesOf(group, curves, name) {
  const shownSeconds = Math.max(curves.samples / group.frequency_hz, 0.2);
  const width = Math.ceil(shownSeconds * 25 * MM) + 8;
  const rows = group.channels.map((channel, at) => rowOf(channel, curves.points[at]));
  const gap = 3 * MM;
  const height = rows.reduce((sum, row) => sum + row.height + gap, 6 * MM);
  const picture = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "curves" });
  picture.append(...gridOf(name, width, height));
  let y = 0;
  group.channels.forEach((channel, at) => {
    const row = rows[at];
    const path = drawn("path", { d: pathOf(group, curves, at, row, y + gap), class: "curve" });
    path.append(drawn("title", {}, channel.label));
    const range = row.own ? ` ${Number(row.low.toPrecision(4))} to ${Number(row.high.toPrecision(4))} ${channel.units}` : "";
    picture.append(path, drawn("text", { x: 4, y: y + gap + 2, class: "lead" }, channel.label + range));
    y += row.height + gap;
  });
  const volts = group.channels.some((channel) => PER_MILLIVOLT[channel.units]);
  const first = curves.first / group.frequency_hz;
  for (let second = Math.ceil(first); second <= first + shownSeconds; second += 1) {
    picture.append(drawn("text", { x: (second - first) * 25 * MM, y: height - 4, class: "second" }, `${second} s`));
  }
  const figure = made("figure");
  figure.append(picture, made("figcaption", "dim", volts ? "25 mm/s · 10 mm/mV; a small square is 0.04 s and 0.1 mV" : "25 mm/s; a small square is 0.04 s"));
  return figure;
}

function gridOf(name, width, height) {
  const ids = ["fine", "coarse"].map((each) => `${each}-${name.replace(/[^\w-]/g, "-")}`);
  const defs = drawn("defs", {});
  ids.forEach((id, at) => {
    const edge = at ? 5 * MM : MM;
    const pattern = drawn("pattern", { id, width: edge, height: edge, patternUnits: "userSpaceOnUse" });
    pattern.append(drawn("path", { d: `M${edge} 0H0V${edge}`, class: at ? "coarse" : "fine" }));
    defs.append(pattern);
  });
  return [defs, ...ids.map((id) => drawn("rect", { width, height, fill: `url(#${id})` }))];
}

function pathOf(group, curves, at, row, y) {
  const parts = [];
  let pen = "M";
  curves.points[at].forEach((value, point) => {
    if (value === null) { pen = "M"; return; }
    const sample = curves.step === 1 ? point : (Math.floor(point / 2) + 0.5) * curves.step;
    const across = sample / group.frequency_hz * 25 * MM;
    const down = y + Math.max(0, Math.min(row.height, (row.top - value) * row.factor));
    parts.push(`${pen}${across.toFixed(2)} ${down.toFixed(2)}`);
    pen = "L";
  });
  return parts.join("");
}

// Documents and videos

function showFile(box, pane, slice) {
  box.classList.add("file");
  const kind = slice.document;
  box.append(made("p", "", kind === "PDF" ? "This object is a PDF." : `This object is a ${kind}. The page does not show it.`));
  const links = made("p");
  const path = renderedPath(pane, slice);
  if (kind === "PDF") links.append(made("a", "button primary", "Open the PDF", { href: path, target: "_blank", rel: "noopener" }), " ");
  links.append(made("a", "button", "Download", { href: path, download: `${slice.uid}${kind === "PDF" ? ".pdf" : ""}` }));
  box.append(links);
}

function showVideo(box, pane, slice) {
  box.classList.add("file");
  const path = renderedPath(pane, slice);
  const video = made("video", "", "", { controls: "", preload: "metadata", src: path });
  const links = made("p");
  links.append(made("a", "button", "Download the video", { href: path, download: "" }));
  video.addEventListener("error", () => {
    video.remove();
    box.prepend(made("p", "problem", "This browser cannot play the video. A player can, once it is downloaded."));
  });
  box.append(video, links);
}
