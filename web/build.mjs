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
// the same worker with the runtime that knows WebGPU
await build({
  ...page, entryPoints: ["src/worker.ts"], outfile: `${SITE}/worker-webgpu.js`,
  alias: { "onnxruntime-web/wasm": "onnxruntime-web/jspi" },
});
for (const name of ["index.html", "style.css", "icon.svg"]) copyFileSync(`src/page/${name}`, `${SITE}/${name}`);
// packed by models.py, which has a compressor as strong
mkdirSync("build/runtime", { recursive: true });
copyFileSync(`${RUNTIME}/ort-wasm-simd-threaded.wasm`, "build/runtime/wasm.wasm");
copyFileSync(`${RUNTIME}/ort-wasm-simd-threaded.jspi.wasm`, "build/runtime/webgpu.wasm");
