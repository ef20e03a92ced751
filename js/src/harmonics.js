// Real, even, orthonormal spherical harmonics in MRtrix3's order, and the surfaces r(u) = sum of coefficient x harmonic.

/** Degree whose even basis has `nCoef` functions. */
export const degreeOf = (nCoef) => Math.round((Math.sqrt(8 * nCoef + 1) - 3) / 2);

/**
 * Values of the harmonics in one direction, coefficient l(l+1)/2+m.
 *
 * N_l^m(cos θ) √2 cos mφ for m > 0, N_l^0 for m = 0, N_l^|m| √2 sin |m|φ for m < 0, with the sign (-1)^m in N;
 * recursion after Holmes & Featherstone 2002.
 */
function harmonicsAt(x, y, z, lmax, out, at) {
  const flat = Math.hypot(x, y);
  const [c, s] = flat > 0 ? [x / flat, y / flat] : [1, 0];
  let [diagonal, cosine, sine] = [Math.sqrt(1 / (4 * Math.PI)), 1, 0];
  for (let m = 0; m <= lmax; m++) {
    if (m > 0) {
      diagonal *= -Math.sqrt((2 * m + 1) / (2 * m)) * flat;
      [cosine, sine] = [cosine * c - sine * s, sine * c + cosine * s];
    }
    let [before, now] = [0, diagonal];
    for (let l = m; l <= lmax; l++) {
      if (l > m) {
        const a = Math.sqrt((4 * l * l - 1) / (l * l - m * m));
        const b = l > m + 1 ? Math.sqrt(((l - 1) ** 2 - m * m) / (4 * (l - 1) ** 2 - 1)) : 0;
        [before, now] = [now, a * (z * now - b * before)];
      }
      if (l % 2) continue;
      const middle = at + (l * (l + 1)) / 2;
      if (m === 0) out[middle] = now;
      else {
        out[middle + m] = Math.SQRT2 * now * cosine;
        out[middle - m] = Math.SQRT2 * now * sine;
      }
    }
  }
}

const STEP = 1e-4; // radians, for differences along the sphere

/**
 * Everything that turns coefficients into surfaces over the given directions.
 *
 * @param {Float64Array} directions xyz, unit vectors
 * @param {number} nCoef
 * @returns {{n: number, nCoef: number, directions: Float64Array, tangents: Float64Array, basis: Float32Array,
 *   slopes: Float32Array}} basis: n x nCoef; slopes: n x 2 x nCoef, derivatives along the two tangents
 */
export function makeBasis(directions, nCoef) {
  const n = directions.length / 3;
  const lmax = degreeOf(nCoef);
  const basis = new Float32Array(n * nCoef);
  const slopes = new Float32Array(2 * n * nCoef);
  const tangents = new Float64Array(6 * n);
  const [above, below] = [new Float64Array(nCoef), new Float64Array(nCoef)];
  for (let v = 0; v < n; v++) {
    const u = directions.subarray(3 * v, 3 * v + 3);
    harmonicsAt(u[0], u[1], u[2], lmax, basis, v * nCoef);
    tangentsAt(u, tangents, 6 * v);
    for (let t = 0; t < 2; t++) {
      const e = tangents.subarray(6 * v + 3 * t, 6 * v + 3 * t + 3);
      const [c, s] = [Math.cos(STEP), Math.sin(STEP)];
      harmonicsAt(c * u[0] + s * e[0], c * u[1] + s * e[1], c * u[2] + s * e[2], lmax, above, 0);
      harmonicsAt(c * u[0] - s * e[0], c * u[1] - s * e[1], c * u[2] - s * e[2], lmax, below, 0);
      for (let k = 0; k < nCoef; k++) slopes[(2 * v + t) * nCoef + k] = (above[k] - below[k]) / (2 * STEP);
    }
  }
  return { n, nCoef, directions, tangents, basis, slopes };
}

function tangentsAt(u, out, at) {
  const axis = Math.abs(u[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0];
  let e = [u[1] * axis[2] - u[2] * axis[1], u[2] * axis[0] - u[0] * axis[2], u[0] * axis[1] - u[1] * axis[0]];
  const length = Math.hypot(...e);
  e = e.map((x) => x / length);
  out.set(e, at);
  out.set([u[1] * e[2] - u[2] * e[1], u[2] * e[0] - u[0] * e[2], u[0] * e[1] - u[1] * e[0]], at + 3);
}

/**
 * Radius and normal of one surface in every direction of the basis: r, nx, ny, nz.
 *
 * The normal of r(u) u is r u - grad r. A negative amplitude is drawn as 0.
 *
 * @param {Float32Array} out 4 numbers per direction, from `at` on
 */
export function shapeOf(basis, coefs, first, out, at) {
  const { n, nCoef, directions, tangents, basis: values, slopes } = basis;
  for (let v = 0; v < n; v++) {
    let [r, g, h] = [0, 0, 0];
    const [row, rise] = [v * nCoef, 2 * v * nCoef];
    for (let k = 0; k < nCoef; k++) {
      const c = coefs[first + k];
      r += c * values[row + k];
      g += c * slopes[rise + k];
      h += c * slopes[rise + nCoef + k];
    }
    const o = at + 4 * v;
    if (r <= 0) [r, g, h] = [0, 0, 0];
    const radial = r > 0 ? r : 1;
    let length = 0;
    for (let x = 0; x < 3; x++) {
      const part = radial * directions[3 * v + x] - g * tangents[6 * v + x] - h * tangents[6 * v + 3 + x];
      out[o + 1 + x] = part;
      length += part * part;
    }
    length = Math.sqrt(length) || 1;
    out[o] = r;
    for (let x = 1; x < 4; x++) out[o + x] /= length;
  }
}
