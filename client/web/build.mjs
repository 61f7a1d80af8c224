// Bundle the page into dist/, with every file that it loads: no other host is contacted when it runs.
import { build } from "esbuild";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";

const runtime = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";
const font = "node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2";
const copied = ["index.html", "style.css", "sw.js", "manifest.webmanifest", "icon.svg", "icon-192.png", "icon-512.png"];

await rm("dist", { recursive: true, force: true });
await mkdir("dist");
await build({
  entryPoints: ["src/main.js"],
  outfile: "dist/main.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "linked",
  logLevel: "warning",
});
await cp(runtime, "dist/onnxruntime.wasm");
await cp(font, "dist/inter.woff2");
for (const name of copied) await cp(`src/${name}`, `dist/${name}`);

// The licences of everything that the page contains.
const { dependencies } = JSON.parse(await readFile("package.json"));
const texts = [];
for (const name of Object.keys(dependencies)) {
  const { license, version } = JSON.parse(await readFile(`node_modules/${name}/package.json`));
  const file = (await readdir(`node_modules/${name}`)).find((one) => /^licen[cs]e/i.test(one));
  const text = file ? await readFile(`node_modules/${name}/${file}`, "utf8") : `${license}\n`;
  texts.push(`${name} ${version} (${license})\n\n${text}`);
}
await writeFile("dist/licences.txt", texts.join("\n----\n\n"));
