// WebGL 2: many glyphs in one instanced call, a slice of anatomy below them.

const GLYPH_VERTEX = `#version 300 es
precision highp float;
in vec3 direction;  // scanner frame
in vec2 pole;       // pair of opposite directions, and which of the two
in vec3 place;      // per glyph
in vec2 row;        // per glyph: its number in the table, and what its radii are multiplied by
uniform highp sampler2D shapes;  // radius and normal of each pair
uniform int nPairs, nRows;
uniform mat3 frame, turn;
uniform vec3 middle, scale;
out vec3 normal, color;
void main() {
  int number = int(row.x);
  vec4 shape = texelFetch(shapes, ivec2(int(pole.x) + nPairs * (number / nRows), number % nRows), 0);
  vec3 point = turn * (place - middle + frame * (shape.x * row.y * direction));
  normal = turn * (frame * (pole.y * shape.yzw));
  vec3 size = abs(direction);
  color = size / max(size.x, max(size.y, size.z));
  gl_Position = vec4(point * scale, 1.0);
}`;

const GLYPH_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 normal, color;
out vec4 pixel;
void main() {
  vec3 n = normalize(normal);
  vec3 aside = vec3(-0.41, 0.62, 0.67);
  float light = 0.25 + 0.62 * max(n.z, 0.0) + 0.22 * max(dot(n, aside), 0.0);
  float shine = 0.14 * pow(max(n.z, 0.0), 20.0);
  pixel = vec4(color * light + shine, 1.0);
}`;

const PLANE_VERTEX = `#version 300 es
in vec2 corner;
uniform mat3 turn;
uniform vec3 origin, across, up, middle, scale;
out vec2 at;
void main() {
  at = corner;
  gl_Position = vec4(turn * (origin + corner.x * across + corner.y * up - middle) * scale, 1.0);
}`;

const PLANE_FRAGMENT = `#version 300 es
precision mediump float;
in vec2 at;
uniform sampler2D picture;
out vec4 pixel;
void main() { pixel = vec4(vec3(0.55 * texture(picture, at).r), 1.0); }`;

export class Renderer {
  /** @throws {Error} the browser offers no WebGL 2 */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("this browser offers no WebGL 2");
    this.gl = gl;
    this.maxRows = Math.min(gl.getParameter(gl.MAX_TEXTURE_SIZE), 4096);
    this.glyphs = program(gl, GLYPH_VERTEX, GLYPH_FRAGMENT);
    this.plane = program(gl, PLANE_VERTEX, PLANE_FRAGMENT);
    this.picture = texture(gl);
    this.corners = buffer(gl, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]));
    gl.enable(gl.CULL_FACE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** A sphere's vertices on the graphics card, to be given to {@link setShapes}. */
  upload(sphere) {
    const gl = this.gl;
    return {
      nPairs: sphere.half.length / 3,
      nCorners: sphere.corners.length,
      directions: buffer(gl, Float32Array.from(sphere.directions)),
      poles: buffer(gl, sphere.pole),
      corners: buffer(gl, sphere.corners, gl.ELEMENT_ARRAY_BUFFER),
      shapes: texture(gl),
      places: gl.createBuffer(),
      rows: gl.createBuffer(),
      nGlyphs: 0,
      nRows: 1,
    };
  }

  /** Radius and normal of every pair of directions of every glyph: nGlyphs x nPairs x 4 float32. */
  setShapes(mesh, shapes, nGlyphs) {
    const gl = this.gl;
    const rows = Math.max(Math.min(nGlyphs, this.maxRows), 1);
    const columns = Math.max(Math.ceil(nGlyphs / rows), 1);
    const wide = columns === 1 ? shapes : sideBySide(shapes, nGlyphs, mesh.nPairs, rows, columns);
    gl.bindTexture(gl.TEXTURE_2D, mesh.shapes);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, columns * mesh.nPairs, rows, 0, gl.RGBA, gl.FLOAT, wide);
    mesh.nRows = rows;
  }

  /** Which glyphs are drawn: places xyz, and for each its row in the shapes and its gain. */
  setPlaces(mesh, places, rows) {
    const gl = this.gl;
    fill(gl, mesh.places, places);
    fill(gl, mesh.rows, rows);
    mesh.nGlyphs = places.length / 3;
  }

  /** The anatomy: width x height grey bytes; origin and sides in the scene. */
  setPlane(bytes, width, height, sides) {
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, bytes);
    this.sides = sides;
  }

  draw(mesh, camera, frame, hasPlane) {
    const gl = this.gl;
    const { width, height } = gl.canvas;
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    // nearer is smaller in clip space; 0.001 keeps every slice between the clipping planes
    const scale = [(2 * camera.zoom) / width, (2 * camera.zoom) / height, -0.001];
    const common = { turn: camera.turn, middle: camera.middle, scale };
    if (hasPlane && this.sides) this.#drawPlane(common);
    if (mesh.nGlyphs) this.#drawGlyphs(mesh, { ...common, frame });
  }

  /** Wait until everything is drawn. */
  finish() {
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  #drawPlane(common) {
    const gl = this.gl;
    const { uniforms, attributes } = use(gl, this.plane);
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.CULL_FACE);
    setUniforms(gl, uniforms, { ...common, ...this.sides });
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    point(gl, attributes.corner, this.corners, 2, 0);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.enable(gl.CULL_FACE);
  }

  #drawGlyphs(mesh, common) {
    const gl = this.gl;
    const { uniforms, attributes } = use(gl, this.glyphs);
    gl.enable(gl.DEPTH_TEST);
    setUniforms(gl, uniforms, common);
    gl.uniform1i(uniforms.nPairs, mesh.nPairs);
    gl.uniform1i(uniforms.nRows, mesh.nRows);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, mesh.shapes);
    point(gl, attributes.direction, mesh.directions, 3, 0);
    point(gl, attributes.pole, mesh.poles, 2, 0);
    point(gl, attributes.place, mesh.places, 3, 1);
    point(gl, attributes.row, mesh.rows, 2, 1);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.corners);
    gl.drawElementsInstanced(gl.TRIANGLES, mesh.nCorners, gl.UNSIGNED_SHORT, 0, mesh.nGlyphs);
  }
}

function program(gl, ...sources) {
  const made = gl.createProgram();
  [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((kind, i) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, sources[i]);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  });
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(`shaders: ${gl.getProgramInfoLog(made)}`);
  const names = (count, get) =>
    Array.from({ length: gl.getProgramParameter(made, count) }, (_, i) => get.call(gl, made, i).name);
  const uniforms = names(gl.ACTIVE_UNIFORMS, gl.getActiveUniform);
  const attributes = names(gl.ACTIVE_ATTRIBUTES, gl.getActiveAttrib);
  return {
    made,
    array: gl.createVertexArray(),
    uniforms: Object.fromEntries(uniforms.map((name) => [name, gl.getUniformLocation(made, name)])),
    attributes: Object.fromEntries(attributes.map((name) => [name, gl.getAttribLocation(made, name)])),
  };
}

function use(gl, wanted) {
  gl.useProgram(wanted.made);
  gl.bindVertexArray(wanted.array);
  return wanted;
}

/** 3-vectors and 3 x 3 matrices (given by rows, WebGL wants columns). */
function setUniforms(gl, places, values) {
  for (const [name, value] of Object.entries(values)) {
    if (value.length === 3 && value[0].length === 3) gl.uniformMatrix3fv(places[name], true, value.flat());
    else gl.uniform3fv(places[name], value);
  }
}

function buffer(gl, values, target = gl.ARRAY_BUFFER) {
  const made = gl.createBuffer();
  gl.bindVertexArray(null);
  gl.bindBuffer(target, made);
  gl.bufferData(target, values, gl.STATIC_DRAW);
  return made;
}

function fill(gl, which, values) {
  gl.bindBuffer(gl.ARRAY_BUFFER, which);
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
}

function point(gl, attribute, which, size, divisor) {
  gl.bindBuffer(gl.ARRAY_BUFFER, which);
  gl.enableVertexAttribArray(attribute);
  gl.vertexAttribPointer(attribute, size, gl.FLOAT, false, 0, 0);
  gl.vertexAttribDivisor(attribute, divisor);
}

function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  for (const size of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, size, gl.NEAREST);
  return made;
}

/** Rows beyond the highest texture go into further columns. */
function sideBySide(shapes, nGlyphs, nPairs, rows, columns) {
  const length = 4 * nPairs;
  const wide = new Float32Array(rows * columns * length);
  for (let g = 0; g < nGlyphs; g++) {
    const at = ((g % rows) * columns + Math.floor(g / rows)) * length;
    wide.set(shapes.subarray(g * length, (g + 1) * length), at);
  }
  return wide;
}
