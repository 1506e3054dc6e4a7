// Shows dates, times and numbers as the reader's browser writes them, and times in the reader's zone.
"use strict";

const languages = navigator.languages?.length ? navigator.languages : undefined;
const UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];
const zone = new Intl.DateTimeFormat(languages).resolvedOptions().timeZone;
const dayFormat = new Intl.DateTimeFormat(languages, { dateStyle: "medium", timeZone: "UTC" });
const momentFormat = new Intl.DateTimeFormat(languages, { dateStyle: "medium", timeStyle: "medium" });

function asNumber(count, digits = 0) {
  return new Intl.NumberFormat(languages, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(count);
}

function asOctets(count) {
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) { count /= 1000; unit += 1; }
  return `${asNumber(count, unit && count < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** A day ("2024-01-31") stays that day; a moment (with a zone) is shown in the reader's. */
function asTime(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text;
  return (text.length === 10 ? dayFormat : momentFormat).format(moment);
}

function localise(root) {
  const each = (what, change) => {
    if (root.matches?.(what)) change(root);
    root.querySelectorAll(what).forEach(change);
  };
  each("time[datetime]", (time) => {
    time.textContent = asTime(time.dateTime);
    if (time.dateTime.length > 10) time.title = `${time.dateTime} (${zone} here)`;
  });
  each("data[value]", (number) => {
    number.textContent = number.dataset.unit === "byte" ? asOctets(Number(number.value)) : asNumber(Number(number.value));
  });
  each("[data-zone]", (place) => { place.textContent = zone; });
}

localise(document.body);
document.addEventListener("htmx:load", (event) => localise(event.detail.elt));
