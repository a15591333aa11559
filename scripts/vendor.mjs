// Copies the ES modules that the page imports from node_modules to node/edge/web/vendor/.
//
// The page's content security policy allows neither an import map nor a foreign host, so what a
// package imports by name must become a relative path here.

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const packages = join(root, "node_modules");
const target = join(root, "node/edge/web/vendor");

const modules = [
  { from: "htm/dist/htm.module.js", to: "htm.module.js", named: "htm" },
  { from: "preact/dist/preact.module.js", to: "preact.module.js", named: "preact" },
  { from: "preact/hooks/dist/hooks.module.js", to: "hooks.module.js", named: "preact/hooks" },
  { from: "socket.io-client/dist/socket.io.esm.min.js", to: "socket.io.esm.min.js", named: "socket.io-client" },
];

const pathOf = new Map(modules.map(({ named, to }) => [named, `./${to}`]));
const importedName = /\b(from|import)\s*(["'])([^"'\n]+)\2/g;

/** The module's text with relative imports only; throws on an import that is not vendored. */
function withRelativeImports(text, file) {
  return text.replace(importedName, (whole, keyword, quote, name) => {
    if (name.startsWith(".")) return whole;
    const path = pathOf.get(name);
    if (path === undefined) throw new Error(`${file} imports ${name}, which is not vendored`);
    return `${keyword}${quote}${path}${quote}`;
  });
}

const sourceMapLine = /^\/\/# sourceMappingURL=.*$/gm;

async function licenceOf(name) {
  const { version } = JSON.parse(await readFile(join(packages, name, "package.json"), "utf8"));
  return `${name} ${version}\n\n${await readFile(join(packages, name, "LICENSE"), "utf8")}`;
}

// Everything is read and checked before the first file is written: no half a folder.
const texts = await Promise.all(
  modules.map(async ({ from }) => {
    const text = await readFile(join(packages, from), "utf8");
    return withRelativeImports(text.replace(sourceMapLine, ""), from);
  }),
);
const bundled = ["htm", "preact", "socket.io-client", "engine.io-client", "socket.io-parser", "engine.io-parser"];
const licences = await Promise.all(bundled.map(licenceOf));

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
await writeFile(join(target, "LICENSES.txt"), licences.join("\n----\n\n"));
for (const [at, { to }] of modules.entries()) await writeFile(join(target, to), texts[at]);
