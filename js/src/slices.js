// The view of maps: slices of one map and of another on top of it, drawn by NiiVue.

import { Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
import { bytesOf, unpack } from "./payload.js";

export const PLANES = ["sagittal", "coronal", "axial"]; // in the order of the image's axes
const TYPES = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  all: SLICE_TYPE.MULTIPLANAR,
};

const OPTIONS = {
  backColor: [0, 0, 0, 1],
  crosshairWidth: 0.25,
  crosshairGap: 1.5,
  crosshairWidthUnit: "voxels",
  crosshairColor: [0.9, 0.62, 0, 0.8],
  fontColor: [1, 1, 1, 1],
  fontMinPx: 15,
  isNearestInterpolation: true,
  isOrientationTextVisible: true,
  isCornerOrientationText: false,
  showAllOrientationMarkers: true,
  multiplanarShowRender: 0,
  sagittalNoseLeft: false,
  dragAndDropEnabled: false,
  scrollRequiresFocus: true,
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  loadingText: "",
  logLevel: "silent",
};

export class SliceView {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} data what `arcuate.report.volumes` wrote
   * @param {(text: string) => void} tell given the place and the values under the crosshair
   */
  constructor(canvas, data, tell) {
    this.canvas = canvas;
    this.data = data;
    this.images = new Map();
    this.looks = new Map(); // by layer, what the user chose: colormap, limits
    this.opacity = 0.6;
    this.plane = "axial";
    this.niivue = new Niivue(OPTIONS);
    // needed for surfaces in 3-D alone, and most of the time of an update
    this.niivue.gradientGL = () => {};
    this.niivue.onLocationChange = (location) => this.#moved(location, tell);
  }

  /** @throws {Error} the browser offers no WebGL 2 */
  async attach() {
    await this.niivue.attachToCanvas(this.canvas, false);
  }

  /** Show map `below`, and `above` on top of it where it is not null; layers by their number. */
  async show(below, above) {
    const wanted = [below, above].filter((number) => number !== null && number !== undefined);
    const images = await Promise.all([...new Set(wanted)].map((number) => this.#load(number)));
    this.shown = [...new Set(wanted)];
    const [first, second] = images;
    first.opacity = 1;
    if (second) second.opacity = this.opacity;
    this.shown.forEach((number) => this.#dress(number));
    const niivue = this.niivue;
    // all at once: each call of addVolume would update the textures again
    niivue.volumes = images;
    niivue.back = first;
    niivue.overlays = images.slice(1);
    niivue.updateGLVolume();
    niivue.createOnLocationChange();
    this.onShow?.();
  }

  /** The map whose colours and range are chosen: the one on top; null where that is an image of colours. */
  get front() {
    const number = this.shown.at(-1);
    return this.#isColor(number) ? null : number;
  }

  /** Colours and range of a map as it is shown. */
  lookOf(number) {
    const { colormap, limits } = this.data.layers[number];
    const isAbove = this.shown.length > 1 && number === this.shown[1];
    const isBelow = this.shown.length > 1 && number === this.shown[0];
    // grey on grey would not be told apart
    const fitting = isBelow ? "gray" : isAbove && colormap === "gray" ? "inferno" : colormap;
    return { colormap: fitting, limits, ...this.looks.get(number) };
  }

  /** Show a map in other colours or between other limits; as it was at first for null. */
  setLook(number, look) {
    if (look) this.looks.set(number, { ...this.looks.get(number), ...look });
    else this.looks.delete(number);
    this.#dress(number);
    this.niivue.updateGLVolume();
    this.onShow?.();
  }

  /** Voxel under the crosshair, on the grid at full resolution. */
  get voxel() {
    return Array.from(this.niivue.scene.crosshairPos, (part, axis) => part * this.data.shape[axis] * this.data.factor - 0.5);
  }

  /** Move the crosshair to a voxel of the grid at full resolution, without telling. */
  follow(voxel) {
    voxel.forEach((value, axis) => {
      const part = (value + 0.5) / (this.data.shape[axis] * this.data.factor);
      this.niivue.scene.crosshairPos[axis] = Math.min(Math.max(part, 0), 1);
    });
    this.isFollowing = true;
    this.niivue.drawScene();
    this.niivue.createOnLocationChange();
    this.isFollowing = false;
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#applyOpacity(), 40);
  }

  setPlane(plane) {
    this.plane = plane;
    this.niivue.setSliceType(TYPES[plane]);
  }

  setRadiological(isRadiological) {
    this.niivue.setRadiologicalConvention(isRadiological);
  }

  /** Slice of a plane, counted from the patient's left, back or bottom. */
  setSlice(plane, index) {
    const axis = PLANES.indexOf(plane);
    this.niivue.scene.crosshairPos[axis] = (index + 0.5) / this.data.shape[axis];
    this.niivue.drawScene();
    this.niivue.createOnLocationChange();
  }

  /** Which slice of a plane is shown. */
  sliceOf(plane) {
    const axis = PLANES.indexOf(plane);
    const count = this.data.shape[axis];
    return Math.min(Math.floor(this.niivue.scene.crosshairPos[axis] * count), count - 1);
  }

  /** Name, range and colours (256 x rgba) of each scalar map that is shown. */
  scales() {
    return this.shown
      .filter((number) => !this.#isColor(number))
      .map((number) => {
        const { name } = this.data.layers[number];
        return { name, limits: this.lookOf(number).limits, colors: this.niivue.colormap(this.images.get(number).colormap) };
      });
  }

  /** Wait until everything is drawn. */
  finish() {
    const gl = this.niivue.gl;
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  #dress(number) {
    if (this.#isColor(number)) return;
    const image = this.images.get(number);
    const { colormap, limits } = this.lookOf(number);
    image.colormap = colormap;
    [image.cal_min, image.cal_max] = limits;
  }

  #isColor(number) {
    return this.data.layers[number].isColor;
  }

  #applyOpacity() {
    if (!this.niivue.overlays.length) return;
    this.niivue.overlays[0].opacity = this.opacity;
    this.niivue.updateGLVolume();
  }

  async #load(number) {
    if (!this.images.has(number)) this.images.set(number, await this.#decode(this.data.layers[number]));
    return this.images.get(number);
  }

  async #decode({ name, bytes, colormap, limits, isColor }) {
    const content = await unpack(bytesOf(bytes));
    const range = isColor ? [] : [colormap, 1, null, ...limits];
    const image = await NVImage.new(content, `${name}.nii`, ...range);
    image.colorbarVisible = !isColor;
    return image;
  }

  #moved({ mm, values }, tell) {
    const place = Array.from(mm).slice(0, 3).map((x) => Math.round(x) + 0); // + 0: no "-0"
    const texts = values.map(({ value }, i) => this.#valueText(this.shown[i], value));
    tell(`${place.join(", ")} mm (right, front, top): ${texts.join("; ")}`);
    this.onSlice?.();
    if (!this.isFollowing) this.onMove?.(this.voxel);
  }

  #valueText(number, value) {
    const { name, isColor, limits } = this.data.layers[number];
    if (isColor) return name;
    return `${name} ${value < limits[0] - 1e-9 ? "outside" : Number(value.toPrecision(3))}`;
  }
}
