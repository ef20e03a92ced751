// Directions on the sphere: an icosahedron, its edges halved until there are enough.

/**
 * A geodesic sphere whose vertices come in opposite pairs.
 *
 * @param {number} rounds 0, 1, 2, 3: 12, 42, 162, 642 vertices
 * @returns {{directions: Float64Array, half: Float64Array, pole: Float32Array, corners: Uint16Array}}
 *   directions: xyz of all vertices; half: xyz of one of each pair; pole: for each vertex its pair's number and +1, or
 *   -1 where it is the opposite one; corners: triangles, anticlockwise seen from outside.
 */
export function makeSphere(rounds) {
  const golden = (1 + Math.sqrt(5)) / 2;
  let points = [];
  for (const a of [-1, 1])
    for (const b of [-golden, golden]) points.push([0, a, b], [a, b, 0], [b, 0, a]);
  let faces = facesOfIcosahedron(points);
  for (let round = 0; round < rounds; round++) faces = halve(points, faces);
  points = points.map(unit);
  return { ...pairUp(points), directions: Float64Array.from(points.flat()), corners: Uint16Array.from(faces.flat()) };
}

function facesOfIcosahedron(points) {
  const near = (i, j) => Math.abs(distance2(points[i], points[j]) - 4) < 1e-9;
  const faces = [];
  for (let i = 0; i < 12; i++)
    for (let j = i + 1; j < 12; j++)
      for (let k = j + 1; k < 12; k++)
        if (near(i, j) && near(j, k) && near(i, k)) faces.push(outward(points, [i, j, k]));
  return faces;
}

function halve(points, faces) {
  const made = new Map();
  const between = (i, j) => {
    const key = i < j ? `${i} ${j}` : `${j} ${i}`;
    if (!made.has(key)) {
      made.set(key, points.length);
      const [a, b] = [unit(points[i]), unit(points[j])];
      points.push(unit([a[0] + b[0], a[1] + b[1], a[2] + b[2]]));
    }
    return made.get(key);
  };
  return faces.flatMap(([a, b, c]) => {
    const [ab, bc, ca] = [between(a, b), between(b, c), between(c, a)];
    return [
      [a, ab, ca],
      [ab, b, bc],
      [ca, bc, c],
      [ab, bc, ca],
    ];
  });
}

function pairUp(points) {
  const half = [];
  const pole = new Float32Array(2 * points.length);
  const place = (p) => p.map((x) => Math.round(x * 1e6) + 0).join(" ");
  const numbers = new Map();
  points.forEach((point, i) => {
    const opposite = numbers.get(place(point.map((x) => -x)));
    if (opposite === undefined) {
      numbers.set(place(point), half.length / 3);
      pole.set([half.length / 3, 1], 2 * i);
      half.push(...point);
    } else pole.set([opposite, -1], 2 * i);
  });
  return { half: Float64Array.from(half), pole };
}

function outward(points, [i, j, k]) {
  const [a, b, c] = [points[i], points[j], points[k]];
  const n = cross(minus(b, a), minus(c, a));
  return n[0] * a[0] + n[1] * a[1] + n[2] * a[2] > 0 ? [i, j, k] : [i, k, j];
}

const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const distance2 = (a, b) => minus(a, b).reduce((sum, x) => sum + x * x, 0);

function unit(p) {
  const length = Math.hypot(...p);
  return [p[0] / length, p[1] / length, p[2] / length];
}
