// Keeps the list of studies and the address the same: what is searched, the order, what is selected.
"use strict";

const form = document.getElementById("search");
const selected = new Set();
let typing = 0;
let asked = null; // the request for rows that is under way

const parameters = () => new URLSearchParams(location.search);
const fields = () => [...form.elements].filter((each) => each.name);

/** The parameters that the fields and the selection stand for; a new search begins at its first page. */
function wanted() {
  const found = new URLSearchParams();
  for (const each of fields()) if (each.value.trim() && !(each.name === "order" && each.value === "-date")) found.set(each.name, each.value.trim());
  if (selected.size) found.set("select", [...selected].join("."));
  return found;
}

function address(path, query) {
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** Fetch the rows that the address names, and show them. */
async function refresh() {
  asked?.abort();
  const mine = asked = new AbortController();
  document.getElementById("searching").classList.add("on");
  try {
    const answer = await fetch(address("/archive/rows", parameters()), { signal: mine.signal });
    if (answer.status === 401 || answer.redirected) { location.reload(); return; } // to log in
    if (!answer.ok) { toast(await reasonOf(answer), "", true); return; }
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = document.activeElement?.closest("#heads") ? document.activeElement.textContent : "";
    for (const id of ["heads", "studies", "found"]) document.getElementById(id).replaceWith(found.getElementById(id));
    if (focused) [...document.querySelectorAll("#heads .sort")].find((each) => each.textContent === focused)?.focus();
    localise(document.getElementById("studies"));
    showSelection();
  } catch (error) {
    if (error.name !== "AbortError") toast("The node does not answer.", "", true);
  } finally {
    if (asked === mine) document.getElementById("searching").classList.remove("on");
  }
}

/** Go to what the fields say. What is typed letter by letter is one step in the history. */
function search(isStep) {
  const next = address("/", wanted());
  if (next === location.pathname + location.search) return;
  history[isStep ? "pushState" : "replaceState"](null, "", next);
  refresh();
}

/** Put what the address says into the fields: a browser may have kept others. */
function readAddress() {
  const given = parameters();
  for (const each of fields()) each.value = given.get(each.name) ?? (each.name === "order" ? "-date" : "");
  selected.clear();
  for (const key of (given.get("select") ?? "").split(".")) if (key) selected.add(key);
  showSelection();
}

function showSelection() {
  const boxes = [...document.querySelectorAll("#studies input[name=key]")];
  for (const box of boxes) box.checked = selected.has(box.value);
  const all = document.querySelector("#heads [data-all]");
  all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
  all.indeterminate = !all.checked && boxes.some((box) => box.checked);
  const text = [...selected].join(".");
  document.getElementById("selection").hidden = !text;
  document.getElementById("selected").value = text;
  document.getElementById("selected-count").textContent = selected.size;
  document.getElementById("selected-zip").href = `/api/zip?select=${text}`;
  document.getElementById("selected-csv").href = `/api/studies.csv?select=${text}`;
}

function selectionChanged() {
  const query = parameters();
  query.delete("select");
  if (selected.size) query.set("select", [...selected].join("."));
  history.replaceState(null, "", address("/", query));
  showSelection();
}

document.addEventListener("input", (event) => {
  if (event.target.form !== form || event.target.matches("select, [type=date]")) return;
  clearTimeout(typing);
  typing = setTimeout(() => { if (event.target.checkValidity()) search(false); }, 200);
});
document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("#studies input[name=key]")) {
    if (field.checked) selected.add(field.value); else selected.delete(field.value);
    selectionChanged();
  } else if (field.matches("#heads [data-all]")) {
    for (const box of document.querySelectorAll("#studies input[name=key]")) {
      if (field.checked) selected.add(box.value); else selected.delete(box.value);
    }
    selectionChanged();
  } else if (field.form === form && field.matches("select, [type=date]")) {
    // A preset and a range of dates exclude each other.
    if (field.name === "when" && field.value) form.elements.date_from.value = form.elements.date_to.value = "";
    if (field.name.startsWith("date_") && field.value) form.elements.when.value = "";
    search(true);
  }
});
form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); search(false); });
document.getElementById("select-none").addEventListener("click", () => { selected.clear(); selectionChanged(); });
document.getElementById("show-filters").addEventListener("click", (event) => {
  const isOpen = document.querySelector("table.archive").classList.toggle("filtering");
  event.currentTarget.setAttribute("aria-expanded", isOpen);
});

// Links to another order or page were written before something was selected: they take it along.
document.addEventListener("click", (event) => {
  const link = event.target.closest("#heads a, #found nav a, #studies a.label");
  if (!link) return;
  const query = new URLSearchParams(link.search);
  query.delete("select");
  if (selected.size) query.set("select", [...selected].join("."));
  link.search = query.toString();
}, true);

// What was done with the selected studies changes their rows.
document.body.addEventListener("htmx:afterRequest", (event) => {
  const { path, verb } = event.detail.requestConfig;
  if (!event.detail.successful || verb !== "post" || !path.startsWith("/archive/")) return;
  if (path === "/archive/delete") { selected.clear(); selectionChanged(); }
  if (path !== "/archive/send" && path !== "/archive/export") refresh();
});

addEventListener("popstate", () => { readAddress(); refresh(); });
addEventListener("pageshow", (event) => { readAddress(); if (event.persisted) refresh(); });
