// Build the page's template: one HTML file with its style, its program and the licences of its libraries.
// The hash of the sources goes into the file, so that a test can tell, without node, whether it is current.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "ema_lab", "reports", "page", "page.html");
const PLACES = ["title", "tables", "data", "live"];
const ALONE = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"];

const sha256 = (content) => createHash("sha256").update(content).digest("hex");
const sources = [...ALONE, ...readdirSync(join(here, "src"), { recursive: true }).map((name) => `src/${name}`)]
  .filter((name) => ALONE.includes(name) || /\.(ts|css|html)$/.test(name))
  .sort();
const hash = sha256(sources.map((name) => `${sha256(readFileSync(join(here, name)))}  ${name}\n`).join(""));

const bundled = await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.ts", style: "src/page.css" },
  outdir: "built",
  bundle: true,
  charset: "ascii",
  format: "iife",
  legalComments: "none", // the whole texts are below
  metafile: true,
  minify: true,
  target: "es2022",
  write: false,
});
const [style, program] = [".css", ".js"].map((ending) => bundled.outputFiles.find((file) => file.path.endsWith(ending)).text.trim());

const packages = Object.keys(bundled.metafile.inputs)
  .map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
  .filter(Boolean);
const licences = [...new Set(packages)].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const files = readdirSync(folder, { recursive: true }).filter((file) => /^(licen[cs]e|notice|copyright)/i.test(file)
    && statSync(join(folder, file)).isFile()).sort();
  if (!files.length) throw new Error(`${name} has no licence text`);
  const texts = files.map((file) => readFileSync(join(folder, file), "utf8").replace(/\r\n/g, "\n").trim());
  return [`${name} ${version} (${license})`, ...texts].join("\n\n");
});
const escaped = licences.join(`\n\n${"-".repeat(80)}\n\n`).replace(/&/g, "&amp;").replace(/</g, "&lt;");

const parts = { sources: hash, style, program, licences: escaped };
for (const [name, text] of Object.entries(parts)) {
  if (PLACES.some((place) => text.includes(`{{${place}}}`))) throw new Error(`the ${name} hold a placeholder`);
}
if (/<\/script|<!--/i.test(program)) throw new Error("the program would end its own element");
const page = readFileSync(join(here, "src", "page.html"), "utf8").replace(/\{\{(\w+)\}\}/g, (whole, name) => parts[name] ?? whole);
writeFileSync(target, `${page}<!-- sha256 of the lines above: ${sha256(page)} -->\n`);
console.log(`${target}: ${Math.round(page.length / 1024)} KB, sources ${hash.slice(0, 12)}`);
