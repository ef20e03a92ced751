// Bundle the viewer into one script for the report, and write down whose work is in it.
// usage: node build.mjs [FOLDER]    (default: the package data of arcuate.report)

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = resolve(process.argv[2] ?? join(HERE, "..", "src", "arcuate", "report", "static"));

// NiiVue reads zarr over the network with these; the report loads nothing, and they are more than half of the bundle.
const LEFT_OUT = /^(zarrita|numcodecs)(\/|$)/;

const leaveOut = {
  name: "leave-out",
  setup(builder) {
    builder.onResolve({ filter: LEFT_OUT }, (found) => ({ path: found.path, namespace: "nothing" }));
    builder.onLoad({ filter: /.*/, namespace: "nothing" }, () => ({ contents: "module.exports = {};", loader: "js" }));
  },
};

/** Folder and description of the package that a bundled file belongs to; null for our own files. */
function packageOf(file) {
  const parts = file.split("/");
  const at = parts.lastIndexOf("node_modules");
  if (at < 0) return null;
  const length = parts[at + 1].startsWith("@") ? 3 : 2;
  return join(HERE, ...parts.slice(0, at + length));
}

/** Licence text of a package: its own file, or ours in licenses/ where the package carries none. */
function licenceOf(folder, { name }) {
  const own = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  if (own) return readFileSync(join(folder, own), "utf8");
  const kept = join(HERE, "licenses", `${name.replace("@", "").replace("/", "-")}.txt`);
  if (!existsSync(kept)) throw new Error(`${name} carries no licence text: add it as ${kept}`);
  return readFileSync(kept, "utf8");
}

/** What NiiVue's bundle carries without being a package: its typeface. */
const CARRIED = [
  ["The Roboto typeface, Copyright 2011 Google Inc. (Apache-2.0), in NiiVue", "roboto-font-Apache-2.0.txt"],
];

function noticesOf(files) {
  const folders = [...new Set(files.map(packageOf).filter(Boolean))].sort();
  const parts = folders.map((folder) => {
    const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    return `${about.name} ${about.version} (${about.license})\n\n${licenceOf(folder, about).trim()}\n`;
  });
  for (const [title, file] of CARRIED)
    parts.push(`${title}\n\n${readFileSync(join(HERE, "licenses", file), "utf8").trim()}\n`);
  const head = "The viewer in arcuate's reports (viewer.js) contains the following packages.\n";
  return [head, ...parts].join(`\n${"-".repeat(78)}\n\n`);
}

const result = await build({
  absWorkingDir: HERE,
  entryPoints: ["src/main.js"],
  bundle: true,
  format: "iife",
  platform: "browser",
  target: ["es2022"],
  minify: true,
  charset: "ascii",
  legalComments: "none",
  metafile: true,
  write: false,
  logLevel: "warning",
  plugins: [leaveOut],
});
const script = result.outputFiles[0].text;
// either of them would end, or hide, the script element that the report puts it in
if (/<\/script|<!--|\r/i.test(script)) throw new Error("the bundle holds </script, <!-- or a carriage return");

mkdirSync(OUT, { recursive: true });
writeFileSync(join(OUT, "viewer.js"), script);
writeFileSync(join(OUT, "THIRD_PARTY_NOTICES.txt"), noticesOf(Object.keys(result.metafile.inputs)));
console.log(`${join(OUT, "viewer.js")}: ${(script.length / 1e6).toFixed(2)} MB`);
