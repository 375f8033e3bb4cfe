// Bundles the page into src/cleft/web/site, and what tests run in node into build/. `make web` calls it.
import { copyFileSync, mkdirSync } from "node:fs";

import { build } from "esbuild";

const SITE = "../src/cleft/web/site";
const RUNTIME = "node_modules/onnxruntime-web/dist";
const common = { bundle: true, format: "esm", target: "es2022", logLevel: "warning", legalComments: "eof" };

await build({
  ...common, entryPoints: ["src/test/node.ts"], outfile: "build/node.mjs", platform: "node", packages: "external",
});
if (process.argv.includes("--tests-only")) process.exit();

mkdirSync(SITE, { recursive: true });
const page = { ...common, minify: true };
await build({ ...page, entryPoints: ["src/page/main.ts"], outfile: `${SITE}/main.js` });
await build({ ...page, entryPoints: ["src/worker.ts"], outfile: `${SITE}/worker.js` });
for (const name of ["index.html", "style.css", "icon.svg"]) copyFileSync(`src/page/${name}`, `${SITE}/${name}`);
// one runtime for every browser, one for those that know WebGPU; their programs are packed by pack.py
mkdirSync(`${SITE}/runtime`, { recursive: true });
copyFileSync(`${RUNTIME}/ort.wasm.bundle.min.mjs`, `${SITE}/runtime/wasm.js`);
copyFileSync(`${RUNTIME}/ort.jspi.bundle.min.mjs`, `${SITE}/runtime/webgpu.js`);
