// Keeps the list of jobs up to date: it changes numbers in place, and fetches rows when a state changes.
"use strict";

let refreshing = 0;

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
  const counts = [`${asNumber(job.done)} done`];
  if (job.failed) counts.push(`${asNumber(job.failed)} failed`);
  if (job.left) counts.push(`${asNumber(job.left)} left`);
  field("counts").textContent = counts.join(", ");
  field("reason").textContent = job.reason;
  const rate = job.rate_bytes_s && job.state === "active" ? ` · ${asOctets(job.rate_bytes_s)}/s` : "";
  field("bytes").textContent = job.bytes ? asOctets(job.bytes) + rate : "";
});

// No event tells what changed between the rendering of this page and the first event.
document.addEventListener("lfscp:open", refresh);

// A list that was requested before a button was pressed may arrive after the answer to the button.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.requestConfig.verb === "post") refresh();
});
