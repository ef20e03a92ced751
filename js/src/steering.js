// Mouse, fingers and keys that turn, move and enlarge the glyphs.

const TURN = Math.PI / 36; // per key
const SPEED = 0.008; // radians per pixel

/**
 * @param {import("./glyphs.js").GlyphView} view
 * @param {(step: number) => void} changeSlice
 */
export function steer(view, changeSlice) {
  const { canvas, camera } = view;
  const fingers = new Map();
  let travelled = 0; // pixels since the button went down: a click does not turn
  const ratio = () => window.devicePixelRatio || 1;
  const enlarge = (factor) => {
    camera.zoom = Math.min(Math.max(camera.zoom * factor, 2), 600 * ratio());
    view.refresh();
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    travelled += Math.hypot(dx, dy);
    if (fingers.size === 2) {
      const [a, b] = fingers.values();
      const other = a.pointerId === event.pointerId ? b : a;
      const apart = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
      enlarge(apart(event) / Math.max(apart(before), 1));
    } else if (event.shiftKey || event.buttons & 6) camera.pan(dx * ratio(), -dy * ratio());
    else camera.rotate(dx * SPEED, dy * SPEED);
    fingers.set(event.pointerId, event);
    view.refresh();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.size === 1 && travelled < 4) view.pick(event.offsetX, event.offsetY);
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => view.reset());
  canvas.addEventListener(
    "wheel",
    (event) => {
      // the page scrolls until the picture was clicked
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      enlarge(Math.exp(-event.deltaY * 0.0015));
    },
    { passive: false },
  );

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const others = {
    "+": () => enlarge(1.15),
    "=": () => enlarge(1.15),
    "-": () => enlarge(1 / 1.15),
    0: () => view.reset(),
    Home: () => view.reset(),
    PageUp: () => changeSlice(1),
    PageDown: () => changeSlice(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) camera.pan(2 * arrow[0] * camera.zoom, -2 * arrow[1] * camera.zoom);
    else if (arrow) camera.rotate(arrow[0] * TURN, arrow[1] * TURN);
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
    view.refresh();
  });
}
