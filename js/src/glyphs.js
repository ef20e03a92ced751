// The view of FODs: a slice of glyphs that turns under the mouse or the keys, drawn when something changes.

import { Camera } from "./camera.js";
import { makeBasis, shapeOf } from "./harmonics.js";
import { bytesOf, floatsOf, unpack } from "./payload.js";
import { Renderer } from "./renderer.js";
import { makeSphere } from "./sphere.js";

const COARSE = 2; // rounds of halving: 162 vertices while something moves
const FINE = 3; //   642 when it rests
const SETTLE = 160; // milliseconds
const CLOSE = 14; // pixels per voxel from which the finer shape can be seen
const MANY = 2600; // glyphs, too many for the fine shape
const ACROSS = 34; // voxels in the first view

export class GlyphView {
  /**
   * @param {HTMLElement} panel holds a canvas and an element `.sides` for the letters
   * @param {object} data what `arcuate.report.glyph_slices` wrote
   * @throws {Error} the browser offers no WebGL 2
   */
  constructor(panel, data) {
    this.canvas = panel.querySelector("canvas");
    this.letters = panel.querySelector(".sides");
    this.data = data;
    this.camera = new Camera();
    this.renderer = new Renderer(this.canvas);
    this.size = 0.75;
    this.isNormalised = false;
    this.hasPlane = true;
    this.number = -1;
    this.loaded = new Map();
    this.coarse = this.#makeLevel(COARSE);
    this.fine = this.#makeLevel(FINE);
    this.isMoving = false;
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
  }

  /** Show slice `number` of the data. */
  async show(number) {
    const slice = await this.#load(number);
    const isFirst = this.number < 0;
    const isOtherPlane = isFirst || slice.plane !== this.slice.plane;
    this.number = number;
    this.slice = slice;
    this.#fill(this.coarse, [...Array(slice.n).keys()]);
    slice.tops ??= topsOf(this.coarse, slice.n);
    this.fine.numbers = null;
    this.#placePlane();
    if (isOtherPlane) this.reset(isFirst ? ACROSS : 0);
    else this.camera.middle[slice.axes[2]] = slice.middle[slice.axes[2]];
    this.refresh();
  }

  /** Stand upright again; `across` limits how many voxels are seen from side to side, 0 for the whole slice. */
  reset(across = 0) {
    this.camera.face(this.slice.plane, this.isRadiological ?? false, this.slice.middle);
    const { clientWidth, clientHeight } = this.canvas;
    const [wide, high] = this.slice.extent;
    const ratio = window.devicePixelRatio || 1;
    const fit = 0.96 * ratio * Math.min(clientWidth / wide, clientHeight / high);
    this.camera.zoom = across ? Math.max(fit, (ratio * clientWidth) / across) : fit;
    this.refresh();
  }

  setRadiological(isRadiological) {
    this.isRadiological = isRadiological;
    this.camera.face(this.slice.plane, isRadiological, this.camera.middle);
    this.refresh();
  }

  /** Show a voxel (of the grid at full resolution): the nearest slice that is there, and a mark at its place. */
  async follow(voxel) {
    this.point = [...voxel];
    const { plane, axes } = this.slice;
    const at = voxel[axes[2]];
    let nearest = this.number;
    const far = (number) => Math.abs(this.data.slices[number].index - at);
    this.data.slices.forEach((slice, number) => {
      if (slice.plane === plane && far(number) < far(nearest)) nearest = number;
    });
    if (nearest !== this.number) {
      await this.show(nearest);
      this.onNumber?.(nearest);
    }
    const [x, y] = this.camera.project(this.#marked());
    const isOutside = Math.abs(x) > 0.48 * this.canvas.width || Math.abs(y) > 0.48 * this.canvas.height;
    if (isOutside) this.camera.middle = this.#marked();
    this.refresh();
  }

  /** Take the mark away. */
  unmark() {
    this.point = null;
    this.refresh();
  }

  /** Mark the voxel of the slice at a place of the canvas, CSS pixels from its left and top. */
  pick(x, y) {
    const ratio = window.devicePixelRatio || 1;
    const { axes, index } = this.slice;
    const depth = index * this.data.spacing[axes[2]];
    const place = this.camera.unproject(
      ratio * (x - this.canvas.clientWidth / 2), ratio * (this.canvas.clientHeight / 2 - y), axes[2], depth,
    );
    if (!place) return;
    this.point = place.map((value, axis) => Math.round(value / this.data.spacing[axis]));
    this.onPoint?.(this.point);
    this.refresh();
  }

  /** Draw again with what was set: soon in coarse shapes, in fine ones when nothing moves any more. */
  refresh() {
    this.isMoving = true;
    this.pending ??= requestAnimationFrame(() => this.#draw());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isMoving = false;
      this.pending ??= requestAnimationFrame(() => this.#draw());
    }, SETTLE);
  }

  /** Draw at once as it looks at rest, or while it moves, and wait for it; milliseconds taken. */
  settle(isMoving = false) {
    const start = performance.now();
    clearTimeout(this.timer);
    this.isMoving = isMoving;
    this.#draw();
    this.renderer.finish();
    return performance.now() - start;
  }

  /** The numbers that were handed to WebGL for the picture as it is, for whoever wants to check them. */
  drawn() {
    const level = this.level;
    const { half, directions, pole } = level.sphere;
    return { ...level.kept, half, directions, pole, unit: this.slice.unit, frame: this.data.frame };
  }

  #makeLevel(rounds) {
    const sphere = makeSphere(rounds);
    const basis = makeBasis(sphere.half, this.data.nCoef);
    return { sphere, basis, mesh: this.renderer.upload(sphere), numbers: null };
  }

  async #load(number) {
    if (!this.loaded.has(number)) this.loaded.set(number, decode(this.data, this.data.slices[number]));
    return this.loaded.get(number);
  }

  /** Compute the shapes of some glyphs of the slice. */
  #fill(level, numbers) {
    const length = 4 * level.basis.n;
    level.shapes = new Float32Array(numbers.length * length);
    numbers.forEach((g, i) => shapeOf(level.basis, this.slice.coefs, g * this.data.nCoef, level.shapes, i * length));
    level.numbers = new Map(numbers.map((g, i) => [g, i]));
    this.renderer.setShapes(level.mesh, level.shapes, numbers.length);
  }

  #draw() {
    this.pending = null;
    if (!this.slice || !this.canvas.width) return;
    const seen = this.#seen();
    const isFine = !this.isMoving && this.camera.zoom >= CLOSE && seen.length <= MANY;
    this.level = isFine ? this.fine : this.coarse;
    if (isFine && !(this.fine.numbers && seen.every((g) => this.fine.numbers.has(g)))) this.#fill(this.fine, seen);
    this.#place(this.level, seen);
    this.renderer.draw(this.level.mesh, this.camera, this.data.frame, this.hasPlane);
    this.#letter();
    const kind = this.camera.isRadiological ? "radiological" : "neurological";
    this.canvas.setAttribute("aria-label", `FOD glyphs, ${this.slice.label}, ${seen.length} voxels in view, ${kind}`);
  }

  /** Glyphs that are not outside of the picture. */
  #seen() {
    const { width, height } = this.canvas;
    const far = 1.5 * this.camera.zoom;
    const seen = [];
    for (let g = 0; g < this.slice.n; g++) {
      const [x, y] = this.camera.project(this.slice.places, 3 * g);
      if (Math.abs(x) < width / 2 + far && Math.abs(y) < height / 2 + far) seen.push(g);
    }
    return seen;
  }

  #place(level, seen) {
    const places = new Float32Array(3 * seen.length);
    const rows = new Float32Array(2 * seen.length);
    seen.forEach((g, i) => {
      const top = this.slice.tops[g];
      places.set(this.slice.places.subarray(3 * g, 3 * g + 3), 3 * i);
      rows.set([level.numbers.get(g), this.size / Math.max(top, this.isNormalised ? 1e-6 : 1)], 2 * i);
    });
    level.kept = { places, rows, shapes: level.shapes, nPairs: level.basis.n };
    this.renderer.setPlaces(level.mesh, places, rows);
  }

  #placePlane() {
    const { bytes, width, height, origin, across, up } = this.slice.picture;
    this.renderer.setPlane(bytes, width, height, { origin, across, up });
  }

  #letter() {
    const { clientWidth, clientHeight } = this.canvas;
    const spans = this.camera.sides().map(({ letter, x, y }) => {
      const reach = Math.min((clientWidth / 2 - 14) / Math.abs(x), (clientHeight / 2 - 14) / Math.abs(y));
      const span = document.createElement("span");
      span.textContent = letter;
      span.style.left = `${clientWidth / 2 + reach * x}px`;
      span.style.top = `${clientHeight / 2 - reach * y}px`;
      return span;
    });
    const ring = this.#ring();
    this.letters.replaceChildren(...spans, ...(ring ? [ring] : []));
  }

  /** The marked voxel in the scene, in the slice that is shown. */
  #marked() {
    const place = this.point.map((value, axis) => value * this.data.spacing[axis]);
    place[this.slice.axes[2]] = this.slice.index * this.data.spacing[this.slice.axes[2]];
    return place;
  }

  /** A ring around the marked voxel; null without one. */
  #ring() {
    if (!this.point) return null;
    const ratio = window.devicePixelRatio || 1;
    const [x, y] = this.camera.project(this.#marked());
    const ring = document.createElement("i");
    const size = Math.max(this.camera.zoom / ratio, 10);
    Object.assign(ring.style, {
      left: `${this.canvas.clientWidth / 2 + x / ratio}px`,
      top: `${this.canvas.clientHeight / 2 - y / ratio}px`,
      width: `${size}px`,
      height: `${size}px`,
    });
    return ring;
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    const before = this.canvas.width;
    this.canvas.width = Math.round(ratio * this.canvas.clientWidth);
    this.canvas.height = Math.round(ratio * this.canvas.clientHeight);
    if (before && this.slice) this.camera.zoom *= this.canvas.width / before || 1;
    this.refresh();
  }
}

const AXES = { sagittal: [1, 2, 0], coronal: [0, 2, 1], axial: [0, 1, 2] }; // across, up, towards the eye

/** A slice as it is drawn, from a slice as it is stored. */
async function decode({ nCoef, spacing }, stored) {
  const content = await unpack(bytesOf(stored.bytes));
  const { n, box } = stored;
  const voxels = new Uint16Array(content, 0, 2 * n);
  const coefs = floatsOf(new Uint16Array(content, 4 * n, n * nCoef));
  const axes = AXES[stored.plane];
  const places = new Float32Array(3 * n);
  for (let g = 0; g < n; g++) {
    places[3 * g + axes[0]] = voxels[2 * g] * spacing[axes[0]];
    places[3 * g + axes[1]] = voxels[2 * g + 1] * spacing[axes[1]];
    places[3 * g + axes[2]] = stored.index * spacing[axes[2]];
  }
  const sizes = [box[2] * spacing[axes[0]], box[3] * spacing[axes[1]]];
  const origin = [0, 0, 0];
  origin[axes[0]] = (box[0] - 0.5) * spacing[axes[0]];
  origin[axes[1]] = (box[1] - 0.5) * spacing[axes[1]];
  origin[axes[2]] = stored.index * spacing[axes[2]];
  const [across, up] = [0, 1].map((k) => Object.assign([0, 0, 0], { [axes[k]]: sizes[k] }));
  const middle = origin.map((o, x) => o + (across[x] + up[x]) / 2);
  const bytes = new Uint8Array(content, 4 * n + 2 * n * nCoef, box[2] * box[3]);
  const picture = { bytes, width: box[2], height: box[3], origin, across, up };
  return { ...stored, bytes: null, axes, places, coefs, middle, extent: sizes, picture };
}

/** Largest amplitude of each glyph. */
function topsOf(level, n) {
  const length = 4 * level.basis.n;
  return Float32Array.from({ length: n }, (_, g) => {
    let top = 0;
    for (let at = g * length; at < (g + 1) * length; at += 4) top = Math.max(top, level.shapes[at]);
    return top;
  });
}
