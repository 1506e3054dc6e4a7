// Computes where things are: on the screen, in the picture, in the patient. Pure: touches no page.
"use strict";

// How a picture is turned: [a, b, c, d] as of a canvas, whole numbers. x' = a x + c y, y' = b x + d y.
const UPRIGHT = [1, 0, 0, 1];
function rotated([a, b, c, d]) { return [-b, a, -d, c]; } // a quarter clockwise, as seen
function flipped([a, b, c, d]) { return [-a, b, -c, d]; } // left and right, as seen
function upended([a, b, c, d]) { return [a, -b, c, -d]; }

// The size of a picture in square units: a column is one wide.
function boxOf(shape) { return { width: shape.columns, height: shape.rows * shape.aspect }; }

// How a pane shows a picture: pixels of the screen for each unit, and where its centre is.
function placing(pane, size, box) {
  const [a, b, c, d] = pane.turn.map(Math.abs);
  const across = a * box.width + c * box.height;
  const down = b * box.width + d * box.height;
  const factor = Math.min(size.width / across, size.height / down) * pane.zoom;
  return { factor, x: size.width / 2 + pane.x, y: size.height / 2 + pane.y };
}

// From pixels of the picture, counted from its corner, to the screen.
function toScreen(pane, place, shape, [x, y]) {
  const box = boxOf(shape);
  const [a, b, c, d] = pane.turn;
  const [u, v] = [(x - box.width / 2) * place.factor, (y * shape.aspect - box.height / 2) * place.factor];
  return [a * u + c * v + place.x, b * u + d * v + place.y];
}

function toPicture(pane, place, shape, [x, y]) {
  const box = boxOf(shape);
  const [a, b, c, d] = pane.turn;
  const [right, down] = [(x - place.x) / place.factor, (y - place.y) / place.factor];
  return [a * right + b * down + box.width / 2, (c * right + d * down + box.height / 2) / shape.aspect];
}

// Letters of the patient's sides, the main one first (PS3.3 section C.7.6.1.1.1).
const SIDES = [["L", "R"], ["P", "A"], ["H", "F"]];
function lettersOf(direction) {
  return direction.map((part, axis) => [Math.abs(part), SIDES[axis][part > 0 ? 0 : 1]])
    .filter(([part]) => part > 0.2).sort(([one], [other]) => other - one).map(([, letter]) => letter).join("");
}

const OPPOSITE = { L: "R", R: "L", A: "P", P: "A", H: "F", F: "H" };
function opposite(letters) {
  if ([...letters].some((letter) => !OPPOSITE[letter])) return ""; // of an animal, or none
  return [...letters].map((letter) => OPPOSITE[letter]).join("");
}

// The letters at the four edges as the picture is turned; null if its orientation is not known.
function edgeLetters(about, [a, b, c, d]) {
  const along = (right, down) => {
    if (about.orientation) {
      const direction = [0, 1, 2].map((axis) => right * about.orientation[axis] + down * about.orientation[axis + 3]);
      return lettersOf(direction);
    }
    const letters = about.patient_orientation[right ? 0 : 1];
    return (right || down) > 0 ? letters : opposite(letters);
  };
  if (!about.orientation && !about.patient_orientation) return null;
  return { right: along(a, c), left: along(-a, -c), bottom: along(b, d), top: along(-b, -d) };
}

function normalOf([a, b, c, d, e, f]) { return [b * f - c * e, c * d - a * f, a * e - b * d]; }
function dot(one, other) { return one.reduce((sum, part, at) => sum + part * other[at], 0); }

// Where a slice is along the axis that it lies most across, such as "H 12.5 mm".
function slicePosition(about) {
  if (!about.position || !about.orientation) return "";
  const normal = normalOf(about.orientation).map(Math.abs);
  const axis = normal.indexOf(Math.max(...normal));
  const at = about.position[axis];
  return `${SIDES[axis][at >= 0 ? 0 : 1]} ${Math.abs(at).toFixed(1)} mm`;
}

// How far along its own normal a slice lies, in mm; null if that is not known.
function alongNormal(about, normal) { return about.position ? dot(about.position, normal) : null; }

// Whether the slices of two pictures have their positions in common and are parallel.
function areParallel(one, other) {
  if (!one?.orientation || !other?.orientation || !one.position || !other.position) return false;
  if (!one.frame_of_reference_uid || one.frame_of_reference_uid !== other.frame_of_reference_uid) return false;
  return Math.abs(dot(normalOf(one.orientation), normalOf(other.orientation))) > 0.99;
}

const MEASURED = {
  patient: "", calibrated: "calibrated", ultrasound: "ultrasound region",
  detector: "at the detector", "scanned film": "on the film",
};

// A vector in pixels as one in mm; in pixels if their size is not known.
function sized(about, [x, y]) {
  const spacing = about?.spacing;
  return spacing ? [x * spacing.column_mm, y * spacing.row_mm] : [x, y];
}

function lengthText(about, [from, to]) {
  const length = Math.hypot(...sized(about, [to[0] - from[0], to[1] - from[1]]));
  if (!about?.spacing) return `${length.toFixed(1)} px`;
  const where = MEASURED[about.spacing.source];
  return `${length.toFixed(length < 10 ? 2 : 1)} mm${where ? ` ${where}` : ""}`;
}

function angleText(about, [from, vertex, to]) {
  const aspect = about?.spacing ? 1 : about?.aspect || 1;
  const arm = (end) => { const [x, y] = sized(about, [end[0] - vertex[0], end[1] - vertex[1]]); return [x, y * aspect]; };
  const [one, other] = [arm(from), arm(to)];
  const angle = Math.abs(Math.atan2(one[0] * other[1] - one[1] * other[0], dot(one, other)));
  return `${(angle * 180 / Math.PI).toFixed(1)}°`;
}

// A bar of a round number of mm, at most so many pixels of the screen long; null if sizes are not known.
function scaleBar(about, turn, factor, most) {
  if (!about?.spacing) return null;
  const [right, down] = [turn[0] / factor, turn[2] / factor / about.aspect]; // what a pixel of the screen covers
  const mm = Math.hypot(...sized(about, [right, down]));
  const unit = 10 ** Math.floor(Math.log10(most * mm));
  const length = [5, 2, 1].map((each) => each * unit).find((each) => each <= most * mm);
  const text = length >= 10 ? `${length / 10} cm` : `${Number(length.toPrecision(2))} mm`;
  const where = MEASURED[about.spacing.source];
  return { pixels: length / mm, text: where ? `${text} ${where}` : text };
}
