// Uploads files, three at a time, each as one request that streams from the disk.
"use strict";

const AT_ONCE = 3;
const drop = document.getElementById("drop");
const waiting = [];
const tally = { total: 0, done: 0, stored: 0, same: 0, refused: 0 };
const studies = new Map();
let running = 0;

function show() {
  document.getElementById("upload-state").hidden = false;
  const bar = document.getElementById("upload-progress");
  bar.max = tally.total;
  bar.value = tally.done;
  const parts = [`${tally.done} of ${tally.total} files`, `${tally.stored} stored`];
  if (tally.same) parts.push(`${tally.same} already there`);
  if (tally.refused) parts.push(`${tally.refused} refused`);
  document.getElementById("upload-text").textContent = parts.join(" · ");
}

function line(text, failed, href) {
  const item = document.createElement("li");
  const label = document.createElement(href ? "a" : "span");
  label.textContent = text;
  if (href) label.href = href;
  if (failed) label.className = "state failed";
  item.append(label);
  document.getElementById("upload-list").prepend(item);
  return label;
}

function count(stored) {
  if (stored.outcome === "stored" || stored.outcome === "replaced") tally.stored += 1; else tally.same += 1;
  const uid = stored.study_instance_uid;
  const known = studies.get(uid) || { count: 0, label: line("", false, `/studies/${encodeURIComponent(uid)}`) };
  known.count += 1;
  known.label.textContent = `study ${uid}: ${known.count} ${known.count === 1 ? "object" : "objects"}`;
  studies.set(uid, known);
}

async function upload(file) {
  try {
    const answer = await ask("/api/instances", { method: "POST", body: file, headers: { "Content-Type": "application/dicom" } });
    for (const stored of answer.stored || [answer]) count(stored); // several of a ZIP
    for (const refused of answer.refused || []) {
      tally.refused += 1;
      line(`${file.name}/${refused.file}: ${refused.detail}`, true);
    }
  } catch (error) {
    tally.refused += 1;
    line(`${file.name}: ${error.message}`, true);
  }
  tally.done += 1;
  show();
}

async function work() {
  running += 1;
  while (waiting.length) await upload(waiting.shift());
  running -= 1;
}

function add(files) {
  for (const file of files) waiting.push(file);
  tally.total += files.length;
  show();
  while (running < AT_ONCE && running < waiting.length + running && waiting.length) work();
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const each of some) found.push(...await filesBelow(each));
  }
}

drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) { add([...event.dataTransfer.files]); return; }
  for (const entry of entries) add(await filesBelow(entry));
});
// One click anywhere on the place opens the files; the buttons say which of the two they open.
drop.addEventListener("click", (event) => {
  if (event.target.closest("input")) return;
  document.getElementById(event.target.closest("[data-opens]")?.dataset.opens || "files").click();
});
for (const id of ["files", "folder-input"]) {
  document.getElementById(id).addEventListener("change", (event) => { add([...event.target.files]); event.target.value = ""; });
}
