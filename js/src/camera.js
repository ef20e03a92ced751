// Where the glyphs are seen from. Scene: the image's axes (right, front, top) in voxel sides. Matrices are row-major.

const AXES = { sagittal: [1, 2], coronal: [0, 2], axial: [0, 1] }; // across, up
const ENDS = [
  ["L", "R"],
  ["P", "A"],
  ["I", "S"],
];

/** Rows of the matrix from the scene to the screen: right, up, towards the eye. */
export function uprightTurn(plane, isRadiological) {
  const [across, up] = AXES[plane];
  const right = [0, 0, 0];
  right[across] = isRadiological && across === 0 ? -1 : 1;
  const above = [0, 0, 0];
  above[up] = 1;
  const eye = [
    right[1] * above[2] - right[2] * above[1],
    right[2] * above[0] - right[0] * above[2],
    right[0] * above[1] - right[1] * above[0],
  ];
  return [right, above, eye];
}

export class Camera {
  plane = "axial";
  isRadiological = false;
  turn = uprightTurn("axial", false);
  middle = [0, 0, 0];
  zoom = 20; // pixels per voxel side

  /** Stand upright before a slice whose middle is at `middle`. */
  face(plane, isRadiological, middle) {
    this.plane = plane;
    this.isRadiological = isRadiological;
    this.turn = uprightTurn(plane, isRadiological);
    this.middle = [...middle];
  }

  /** Turn the scene under the eye: about the screen's upward axis, then about the one to the right, radians. */
  rotate(about, over) {
    const [ca, sa, co, so] = [Math.cos(about), Math.sin(about), Math.cos(over), Math.sin(over)];
    const [r, u, e] = this.turn;
    const mix = (a, x, b, y) => a.map((value, i) => x * value + y * b[i]);
    const [right, eye] = [mix(r, ca, e, sa), mix(e, ca, r, -sa)];
    this.turn = orthonormal([right, mix(u, co, eye, -so), mix(eye, co, u, so)]);
  }

  /** Move the scene by pixels to the right and up. */
  pan(right, up) {
    for (let x = 0; x < 3; x++)
      this.middle[x] -= (right * this.turn[0][x] + up * this.turn[1][x]) / this.zoom;
  }

  /** Pixels to the right of and above the middle of the picture, of the point that begins at `first` of `points`. */
  project(points, first = 0) {
    const from = this.middle.map((value, i) => points[first + i] - value);
    return [0, 1].map((row) => this.zoom * dot(this.turn[row], from));
  }

  /** Point of the plane where coordinate `axis` is `value` that is seen at pixels to the right and above; null edge on. */
  unproject(x, y, axis, value) {
    const [right, up, eye] = this.turn;
    if (Math.abs(eye[axis]) < 0.05) return null;
    const at = this.middle.map((m, i) => m + (x * right[i] + y * up[i]) / this.zoom);
    const along = (value - at[axis]) / eye[axis];
    return at.map((a, i) => a + along * eye[i]);
  }

  /** Letters of the patient's sides, and the direction on the screen in which each lies; none for what faces us. */
  sides() {
    const found = [];
    for (let axis = 0; axis < 3; axis++) {
      const [x, y] = [this.turn[0][axis], this.turn[1][axis]];
      const length = Math.hypot(x, y);
      if (length < 0.4) continue;
      found.push({ letter: ENDS[axis][1], x: x / length, y: y / length });
      found.push({ letter: ENDS[axis][0], x: -x / length, y: -y / length });
    }
    return found;
  }
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

function orthonormal([right, , eye]) {
  const z = scaled(eye);
  const along = dot(right, z);
  const x = scaled(right.map((value, i) => value - along * z[i]));
  return [x, [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]], z];
}

function scaled(v) {
  const length = Math.hypot(...v);
  return v.map((value) => value / length);
}
