// Keeps the list of jobs up to date: it changes numbers in place, and fetches rows when a state changes.
"use strict";

const units = ["bytes", "kB", "MB", "GB", "TB"];
let refreshing = 0;

function octets(count) {
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

function refresh() {
  // The first of several events sets the time: a timer that every event starts again would never end.
  refreshing ||= setTimeout(() => { refreshing = 0; htmx.trigger("#job-rows", "refresh"); }, 250);
}

document.addEventListener("lfscp:job", (event) => {
  const job = event.detail;
  const row = document.getElementById(`job-${job.id}`);
  if (!row || row.dataset.state !== job.state) { refresh(); return; }
  const field = (name) => row.querySelector(`[data-field=${name}]`);
  const total = job.done + job.failed + job.left;
  if (total) { field("progress").max = total; field("progress").value = job.done + job.failed; }
  const counts = [`${job.done} done`];
  if (job.failed) counts.push(`${job.failed} failed`);
  if (job.left) counts.push(`${job.left} left`);
  field("counts").textContent = counts.join(", ");
  field("reason").textContent = job.reason;
  const rate = job.rate_bytes_s && job.state === "active" ? ` · ${octets(job.rate_bytes_s)}/s` : "";
  field("bytes").textContent = job.bytes ? octets(job.bytes) + rate : "";
});

// No event tells what changed between the rendering of this page and the first event.
document.addEventListener("lfscp:open", refresh);

// A list that was requested before a button was pressed may arrive after the answer to the button.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.requestConfig.verb === "post") refresh();
});
