// What the report put into the page: base64 in JSON, most of it gzip.

/** The content of the element `id`, parsed. */
export const readJson = (id) => JSON.parse(document.getElementById(id).textContent);

/** Bytes of a base64 text. */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Uncompressed content of gzip bytes. */
export async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

let table = null; // value of each of the 65536 half-precision numbers

/** float16 numbers as float32. */
export function floatsOf(halves) {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
  return Float32Array.from(halves, (bits) => table[bits]);
}
