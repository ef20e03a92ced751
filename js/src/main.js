// Start the viewer of a report: its two views, their controls, and a note for whoever waits for it.

import { GlyphView } from "./glyphs.js";
import { readJson } from "./payload.js";
import { PLANES, SliceView } from "./slices.js";
import { steer } from "./steering.js";

const find = (id) => document.getElementById(id);

/** Call `then` with the control whenever it changes. */
function follow(id, event, then) {
  const control = find(id);
  control.addEventListener(event, () => then(control));
  return control;
}

/** A bar of a map's colours between the ends of its range. */
function drawScale({ name, limits, colors }) {
  const bar = document.createElement("canvas");
  [bar.width, bar.height] = [256, 1];
  const opaque = Uint8ClampedArray.from(colors, (value, i) => (i % 4 === 3 ? 255 : value));
  bar.getContext("2d").putImageData(new ImageData(opaque, 256, 1), 0, 0);
  const scale = document.createElement("span");
  const [low, high] = limits.map((limit) => Number(limit.toPrecision(3)));
  scale.append(`${name}  ${low} `, bar, ` ${high}`);
  return scale;
}

/** Colours and range of the map on top, as its controls say. */
function chooseLook(view) {
  const [colors, low, high, reset] = ["colors", "low", "high", "reset"].map((name) => find(`maps-${name}`));
  const controls = [colors, low, high, reset];
  const apply = () => {
    const limits = [Number(low.value), Number(high.value)];
    if (view.front !== null && limits[1] > limits[0]) view.setLook(view.front, { colormap: colors.value, limits });
  };
  for (const control of [colors, low, high]) control.addEventListener("change", apply);
  reset.addEventListener("click", () => view.front !== null && view.setLook(view.front, null));
  return () => {
    const number = view.front;
    for (const control of controls) control.disabled = number === null;
    if (number === null) return;
    const { colormap, limits } = view.lookOf(number);
    if (![...colors.options].some((option) => option.value === colormap)) colors.add(new Option(colormap));
    colors.value = colormap;
    [low.value, high.value] = limits.map((limit) => Number(limit.toPrecision(4)));
    const step = 10 ** Math.floor(Math.log10((limits[1] - limits[0]) / 20));
    low.step = high.step = Number(step.toPrecision(1));
  };
}

async function startSlices(radiological) {
  const data = readJson("viewer-maps");
  const status = find("maps-status");
  const view = new SliceView(find("maps-canvas"), data, (text) => (status.textContent = text));
  await view.attach();
  const below = find("maps-below");
  const above = find("maps-above");
  const numberIn = (control) => (control.value === "" ? null : Number(control.value));
  const show = () => view.show(numberIn(below), numberIn(above));
  const range = find("maps-slice");
  const plane = find("maps-plane");
  const sliced = () => (plane.value === "all" ? "axial" : plane.value);
  const facePlane = () => {
    view.setPlane(plane.value);
    range.max = data.shape[PLANES.indexOf(sliced())] - 1;
    range.value = view.sliceOf(sliced());
    tellSlice();
  };
  const tellSlice = () => {
    const number = data.start[PLANES.indexOf(sliced())] + data.factor * Number(range.value);
    find("maps-slice-number").textContent = `${sliced()} ${number}`;
  };
  view.onSlice = () => {
    range.value = view.sliceOf(sliced());
    tellSlice();
  };
  const showLook = chooseLook(view);
  view.onShow = () => {
    showLook();
    find("maps-scales").replaceChildren(...view.scales().map(drawScale));
  };
  for (const control of [below, above]) control.addEventListener("change", show);
  follow("maps-opacity", "input", ({ value }) => view.setOpacity(value / 100));
  plane.addEventListener("change", facePlane);
  range.addEventListener("input", () => view.setSlice(sliced(), Number(range.value)));
  view.setRadiological(radiological);
  await show();
  for (const name of PLANES) view.setSlice(name, data.middle[PLANES.indexOf(name)]);
  facePlane();
  view.finish();
  return view;
}

async function startGlyphs(radiological) {
  const data = readJson("viewer-glyphs");
  const view = new GlyphView(find("glyphs-panel"), data);
  const slice = find("glyphs-slice");
  view.isRadiological = radiological;
  await view.show(Number(slice.value));
  const change = async () => {
    await view.show(Number(slice.value));
    view.onSlice?.();
  };
  slice.addEventListener("change", change);
  follow("glyphs-size", "input", ({ value }) => {
    view.size = value / 100;
    view.refresh();
  });
  follow("glyphs-normalised", "change", ({ checked }) => {
    view.isNormalised = checked;
    view.refresh();
  });
  follow("glyphs-plane", "change", ({ checked }) => {
    view.hasPlane = checked;
    view.refresh();
  });
  follow("glyphs-reset", "click", () => view.reset());
  steer(view, (step) => {
    slice.selectedIndex = Math.max(0, Math.min(slice.options.length - 1, slice.selectedIndex + step));
    change();
  });
  view.onNumber = (number) => (slice.value = String(number));
  view.firstDraw = view.settle();
  return view;
}

/** One crosshair for both views: where one is moved, the other follows. */
function link(maps, glyphs) {
  const box = find("viewer-linked");
  const toGlyphs = (voxel) => box.checked && glyphs.follow(voxel);
  const toMaps = () => {
    if (!box.checked) return;
    glyphs.point ??= maps.voxel;
    glyphs.point[glyphs.slice.axes[2]] = glyphs.slice.index;
    maps.follow(glyphs.point);
    glyphs.refresh();
  };
  maps.onMove = toGlyphs;
  glyphs.onSlice = toMaps;
  glyphs.onPoint = (voxel) => {
    if (!box.checked) return;
    maps.follow(voxel);
    glyphs.refresh();
  };
  box.addEventListener("change", () => {
    if (box.checked) toMaps();
    else glyphs.unmark();
  });
  toMaps();
}

/** Say what is missing, and show the report's still picture in its place. */
function standIn(panel, picture, error) {
  const box = panel.querySelector(".stage");
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = `No interactive view here: ${error.message}. A still picture stands in for it.`;
  const still = document.querySelector(picture)?.cloneNode();
  box.replaceChildren(note, ...(still ? [still] : []));
  panel.querySelectorAll("input, select, button").forEach((control) => (control.disabled = true));
}

async function start() {
  const views = { isReady: false };
  const isRadiological = () => find("viewer-radiological").checked;
  const panels = [
    ["maps", "maps-panel", startSlices, "#tensor figure img, #noddi figure img, #mask figure img"],
    ["glyphs", "glyphs-panel", startGlyphs, "#fods figure img"],
  ];
  views.startMs = performance.now();
  for (const [name, id, begin, picture] of panels) {
    const panel = find(id);
    if (!panel) continue;
    try {
      views[name] = await begin(isRadiological());
      views[`${name}Ms`] = performance.now();
    } catch (error) {
      standIn(panel, picture, error);
    }
  }
  if (views.maps && views.glyphs) link(views.maps, views.glyphs);
  for (const radio of document.querySelectorAll("input[name=viewer-sides]"))
    radio.addEventListener("change", () => {
      views.maps?.setRadiological(isRadiological());
      views.glyphs?.setRadiological(isRadiological());
    });
  views.isReady = true;
  views.readyMs = performance.now();
  document.documentElement.dataset.viewerReadyMs = views.readyMs.toFixed(0);
  window.arcuateViewer = views;
}

start();
