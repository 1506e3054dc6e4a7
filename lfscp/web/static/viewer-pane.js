// One pane of the viewer: a series, the slice that is shown of it, and how it is shown.
"use strict";

const AHEAD = 6; // frames fetched beyond the one shown
const MOST_FRAMES = 100_000; // of an object

class Pane {
  constructor(element) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.marks = element.querySelector("svg");
    this.message = element.querySelector(".message");
    this.source = document.createElement("canvas"); // values as they are windowed
    this.measures = new Map(); // name of a frame to what was measured on it
    this.clear();
    new ResizeObserver(() => this.paint()).observe(element);
  }

  clear() {
    Object.assign(this, {
      series: null, slices: [], at: 0, zoom: 1, x: 0, y: 0, turn: UPRIGHT, invert: false, window: null, known: null,
      overlays: true, playing: false, dragging: false, firstKnown: null, busy: false, wanted: false, shown: null, about: null, preset: "own",
      colour: false, pending: null, timer: 0,
    });
    this.measures.clear();
    this.element.querySelector(".document")?.remove();
  }

  get slice() { return this.slices[this.at]; }
  get text() { return (name) => this.element.querySelector(`.${name}`); }

  // Reads the list of a series' frames, and shows one of them.
  async load(series, instance = "") {
    this.clear();
    this.series = series;
    this.message.textContent = "Loading …";
    const slices = [];
    let after = "";
    do {
      const page = await ask(`/api/series/${encodeURIComponent(series.uid)}/instances${series.key || "?"}&limit=500${after}`);
      for (const row of page.rows) slices.push(...slicesOf(row));
      after = page.next ? `&after=${page.next}` : "";
    } while (after);
    if (this.series !== series) return; // another one was chosen meanwhile
    this.slices = slices;
    if (!slices.length) { this.message.textContent = "This series has no objects."; return; }
    this.at = Math.max(0, slices.findIndex((slice) => slice.uid === instance));
    this.fillTexts();
    if (!this.slice.document) {
      try { this.learn(await aboutOf(this.slice)); } catch (error) { this.message.textContent = error.message; }
    }
    await this.show();
  }

  learn(about) {
    this.about = about;
    this.colour = about.is_colour;
  }

  // The window that a frame is shown with when nothing else is asked; null when none is known.
  ownWindow(slice = this.slice) {
    if (slice?.window) return slice.window;
    const about = slice?.about;
    if (!about || about.is_colour) return null;
    if (about.center !== null) return { center: about.center, width: about.width, function: about.function };
    return about.fitting_center === null ? null : { center: about.fitting_center, width: about.fitting_width, function: about.function };
  }

  // Whether a frame is fetched as values. While frames are played as they are, pictures are smaller.
  takesValues(slice) {
    if (slice.pictureOnly || (this.playing && !this.window)) return false;
    const about = slice.about || this.about;
    if (!about?.has_values) return false;
    return Boolean(this.window) || !about.voi_lut;
  }

  async frameOf(slice) {
    if (this.takesValues(slice)) {
      try {
        const values = await fetchValues(valuesPath(slice));
        if (values.window) slice.window = values.window;
        if (values.window || this.window) return { values };
      } catch (error) {
        if (error.status !== 415) throw error;
        slice.pictureOnly = true;
      }
    }
    const { image } = await fetchPicture(picturePath(slice, this.window, this.overlays));
    return { image };
  }

  // While one frame is on its way, only the newest request is kept: dragging never builds up a queue.
  async show() {
    if (!this.slices.length) return;
    this.wanted = true;
    this.describe();
    this.element.dispatchEvent(new CustomEvent("slice", { bubbles: true, detail: this }));
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.wanted) {
        this.wanted = false;
        await this.fetch(this.slice);
      }
    } finally { this.busy = false; }
    if (this.slice && !this.slice.document) this.prepare();
  }

  async fetch(slice) {
    showDocument(this, slice);
    if (slice.document) { this.shown = null; this.message.textContent = ""; this.paint(); return; }
    try {
      const frame = await this.frameOf(slice);
      if (!this.slices.includes(slice)) return; // of another series
      this.shown = { ...frame, slice };
      this.message.textContent = "";
    } catch (error) {
      if (!this.slices.includes(slice)) return;
      this.shown = null;
      this.message.textContent = error.message;
    }
    this.paint();
  }

  // Asks for what the node says about the slice, and for the frames beside it, the nearest first.
  async prepare() {
    const here = this.slice;
    if (!here.about && !this.playing) {
      aboutOf(here).then((about) => { if (this.slice === here) { this.learn(about); this.paint(); changed(this); } }).catch(() => {});
    }
    for (let k = 1; k <= AHEAD; k += 1) {
      const beside = [this.slices[this.at + k], this.slices[this.at - k]].filter((next) => next && !next.document);
      await Promise.all(beside.map((next) => this.frameOf(next).catch(() => {})));
      if (this.slice !== here || this.dragging || this.busy) return; // what is asked for now comes first
    }
  }

  // Rows, columns and aspect of what is shown.
  get shape() {
    const about = this.slice?.about || (this.about?.rows ? this.about : null);
    const { values, image } = this.shown || {};
    if (values) return { rows: values.rows, columns: values.columns, aspect: about?.aspect || 1 };
    if (about && this.slice?.about) return { rows: about.rows, columns: about.columns, aspect: about.aspect };
    return image ? { rows: image.height, columns: image.width, aspect: 1 } : { rows: 1, columns: 1, aspect: 1 };
  }

  get size() { return { width: this.element.clientWidth, height: this.element.clientHeight }; }
  get place() { return placing(this, this.size, boxOf(this.shape)); }

  paint() {
    const scale = devicePixelRatio || 1;
    const { canvas } = this;
    const [width, height] = [Math.round(this.size.width * scale), Math.round(this.size.height * scale)];
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.shown) this.draw(context, scale);
    this.describe();
    drawMarks(this);
  }

  draw(context, scale) {
    const { values, image } = this.shown;
    if (values) drawValues(this.source, values, this.window || values.window || this.known, this.overlays);
    const picture = values ? this.source : image;
    const box = boxOf(this.shape);
    const place = this.place;
    const factor = place.factor * scale;
    const [a, b, c, d] = this.turn.map((part) => part * factor);
    context.setTransform(a, b, c, d, place.x * scale, place.y * scale);
    context.imageSmoothingEnabled = factor < 4 * scale;
    context.drawImage(picture, -box.width / 2, -box.height / 2, box.width, box.height);
    if (this.invert) {
      context.globalCompositeOperation = "difference";
      context.fillStyle = "#fff";
      context.fillRect(-box.width / 2, -box.height / 2, box.width, box.height);
      context.globalCompositeOperation = "source-over";
    }
    this.zoomText = `${Math.round(place.factor * 100)} %`;
  }

  describe() {
    const { slice } = this;
    if (!slice) return;
    const lines = [`${this.at + 1} / ${this.slices.length}`];
    if (slice.frames > 1) lines.push(`object ${slice.number}, frame ${slice.frame} of ${slice.frames}`);
    this.text("where").textContent = lines.join(" · ");
    this.text("slice-position").textContent = slice.about ? slicePosition(slice.about) : "";
    const table = !this.window && slice.about?.voi_lut;
    const own = this.ownWindow(slice);
    if (own) this.known = own; // of a frame that was shown, for a drag that begins before the next one's is known
    const used = this.window || own;
    const window = table ? "VOI LUT" : used && `C ${rounded(used.center, used.width)} W ${rounded(used.width, used.width)}`;
    this.text("how").textContent = slice.document ? "" : [window, this.shown && this.zoomText].filter(Boolean).join(" · ");
    if (this.element.classList.contains("active")) changed(this);
  }

  fillTexts() {
    this.text("ne").querySelector(".series").textContent = this.series.title;
  }

  go(at) {
    const next = Math.max(0, Math.min(this.slices.length - 1, at));
    if (next !== this.at) { this.at = next; this.pending = null; this.show(); }
  }

  setWindow(center, width, how = "LINEAR") {
    this.window = { center, width, function: how };
    if (this.shown?.values && this.shown.slice === this.slice) this.paint(); else this.show();
  }

  zoomBy(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const before = this.zoom;
    this.zoom = Math.max(0.1, Math.min(30, this.zoom * factor));
    const grown = this.zoom / before;
    const [cx, cy] = [x - this.size.width / 2, y - this.size.height / 2];
    this.x = cx - (cx - this.x) * grown;
    this.y = cy - (cy - this.y) * grown;
    this.paint();
  }

  move(dx, dy) { this.x += dx; this.y += dy; this.paint(); }
  turnBy(turning) { this.turn = turning(this.turn); this.paint(); }

  reset() {
    Object.assign(this, { zoom: 1, x: 0, y: 0, turn: UPRIGHT, invert: false, window: null, preset: "own", pending: null });
    this.show();
    this.paint();
  }

  // The stored value under a point of the screen, as text; empty if it is not known.
  valueAt(point) {
    const { values, slice } = this.shown || {};
    if (!values || slice !== this.slice) return "";
    const [x, y] = toPicture(this, this.place, this.shape, point).map(Math.floor);
    if (x < 0 || y < 0 || x >= values.columns || y >= values.rows) return "";
    const value = rescaled(values, values.stored[y * values.columns + x]);
    return `x ${x + 1} y ${y + 1} · ${Number(value.toPrecision(6))}${values.units ? ` ${values.units}` : ""}`;
  }
}

function slicesOf(row) {
  const count = Math.min(MOST_FRAMES, Math.max(1, parseInt(row.number_of_frames, 10) || 1));
  const kind = documentKind(row);
  const slice = (frame, frames) => ({
    uid: row.sop_instance_uid, number: row.instance_number, frame, frames, document: kind, syntax: row.transfer_syntax_uid,
  });
  return kind ? [slice(1, 1)] : Array.from({ length: count }, (_, at) => slice(at + 1, count));
}

// Whole numbers, unless the window is too narrow for them.
function rounded(number, width) {
  return width >= 10 ? Math.round(number) : Number(number.toPrecision(3));
}
