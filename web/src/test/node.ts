/** What tests ask of the stages in node: a model and a file in, labels out. Not part of the page. */

import { readFileSync, writeFileSync } from "node:fs";

import * as ort from "onnxruntime-web/wasm";

import { intensityLimits } from "../core/intensity";
import { segment } from "../core/segment";
import type { Diameter } from "../core/scale";
import { type Choice, openImage, readImage } from "../io/read";
import { labelsToTiff } from "../io/write_tiff";
import { loadNetwork, prepare } from "../ort";

interface Job {
  model: string;
  image: string;
  labels: string;
  diameter: Diameter;
  choice?: Partial<Choice>;
}

const EVERYTHING: Choice = { pagesAre: "Z", channel: 0, time: 0, plane: "all", spacing: {} };

prepare(ort);
for (const job of JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Job[]) {
  const network = loadNetwork(new Uint8Array(readFileSync(job.model)), job.model);
  const opened = await openImage(new Blob([readFileSync(job.image)]), job.image);
  const image = await readImage(opened, { ...EVERYTHING, ...job.choice });
  const began = performance.now();
  const limits = intensityLimits(image.data, image.shape, network.card.percentiles, network.card.noise_floor);
  const found = await segment(network, image, job.diameter);
  const seconds = (performance.now() - began) / 1000;
  const file = await labelsToTiff(found, image.shape, image.spacing);
  writeFileSync(job.labels, new Uint8Array(await file.arrayBuffer()));
  const { estimated, factors, count } = found;
  console.log(JSON.stringify({ estimated, factors, count, seconds, limits, shape: image.shape, spacing: image.spacing }));
}
