// Does what every page needs: short messages, rows as links, keys, dark and light, events.
"use strict";

const csrf = document.body.dataset.csrf;

/** Ask the node; throws an Error with a text for the user. */
async function ask(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    headers: { Accept: "application/json", "X-CSRF-Token": csrf, ...(options.headers || {}) },
  });
  if (!response.ok) throw new Error(await reasonOf(response));
  return response.status === 204 ? null : response.json();
}

async function reasonOf(response) {
  try { return (await response.json()).detail || response.statusText; } catch { return response.statusText; }
}

function toast(text, href, failed) {
  const box = document.createElement("div");
  box.className = failed ? "toast failed" : "toast";
  box.textContent = text;
  if (href) {
    const link = document.createElement("a");
    link.href = href;
    link.textContent = "Show";
    box.append(link);
  }
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), failed ? 9000 : 5000);
}

document.body.addEventListener("toast", (event) => toast(event.detail.text, event.detail.href, event.detail.failed));
document.body.addEventListener("htmx:responseError", (event) => {
  let text = `The node answered with status ${event.detail.xhr.status}.`;
  try { text = JSON.parse(event.detail.xhr.responseText).detail || text; } catch { /* no problem document */ }
  toast(text, "", true);
});
// An element that is replaced while the node answers is heard too: its events no longer reach the body.
const heard = new WeakSet();
document.body.addEventListener("htmx:beforeRequest", (event) => {
  const asking = event.detail.elt;
  if (heard.has(asking)) return;
  heard.add(asking);
  for (const name of ["toast", "htmx:responseError"]) {
    asking.addEventListener(name, ({ detail }) => {
      if (!asking.isConnected) document.body.dispatchEvent(new CustomEvent(name, { detail }));
    });
  }
});
document.body.addEventListener("htmx:sendError", () => toast("The node does not answer.", "", true));
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.target.matches("form[data-reset]")) event.target.reset();
});

// If a picture cannot be loaded, its place shows a text instead of a broken image.
function missing(image) { image.closest(".picture")?.classList.add("none"); }
document.addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) missing(event.target); }, true);
for (const image of document.images) if (image.complete && !image.naturalWidth) missing(image);

// A row is a link too, for the mouse. The keyboard has the link in it: one tab stop, and the arrows.
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-href]");
  if (!row || event.target.closest("a, button, input") || String(getSelection())) return;
  if (event.target.closest(".tick")) { event.target.closest(".tick").querySelector("input")?.click(); return; }
  if (event.ctrlKey || event.metaKey) window.open(row.dataset.href); else location.href = row.dataset.href;
});
document.addEventListener("change", (event) => {
  if (!event.target.matches("input[data-all]")) return;
  for (const box of event.target.closest("table").querySelectorAll("tbody input[type=checkbox]")) box.checked = event.target.checked;
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  const row = event.target.closest("tr[data-href]");
  if (event.key === "/" && !typing) {
    const box = document.querySelector("[data-key='/']");
    if (box) { event.preventDefault(); box.focus(); box.select(); }
  }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...document.querySelectorAll("tr[data-href]")].map((each) => each.querySelector("a[href]")).filter(Boolean);
  if (!links.length || (typing && !typing.matches("[data-key='/']"))) return;
  const at = row ? links.indexOf(row.querySelector("a[href]")) : -1;
  const next = links[event.key === "ArrowDown" ? at + 1 : at - 1];
  if (next) { event.preventDefault(); next.focus(); }
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("lfscp-theme", root.dataset.theme);
});

// Events: one stream for each page; other scripts listen to "lfscp:job" and "lfscp:node".
const active = new Set();
const told = new Set(); // jobs with an event, which is newer than any list

function showActive() {
  const badge = document.getElementById("active-jobs");
  badge.hidden = active.size === 0;
  badge.textContent = active.size;
}

async function watch() {
  const live = document.getElementById("live");
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => {
    live.classList.add("on");
    document.dispatchEvent(new CustomEvent("lfscp:open"));
  });
  source.addEventListener("error", () => live.classList.remove("on"));
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    told.add(job.id);
    if (job.state === "active" || job.state === "sleeping") active.add(job.id); else active.delete(job.id);
    showActive();
    document.dispatchEvent(new CustomEvent("lfscp:job", { detail: job }));
  });
  source.addEventListener("node", (event) => {
    document.dispatchEvent(new CustomEvent("lfscp:node", { detail: JSON.parse(event.data) }));
  });
  addEventListener("pagehide", () => source.close());
  for (const job of await ask("/api/jobs?state=active&state=sleeping&limit=1000")) {
    if (!told.has(job.id)) active.add(job.id);
  }
  showActive();
}

// Not earlier: other scripts do not listen yet, and the page would keep jobs that ended in between.
document.addEventListener("DOMContentLoaded", () => {
  watch().catch(() => {});
});
