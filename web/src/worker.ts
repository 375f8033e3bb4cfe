/** The worker: everything that takes time, so that the page never freezes. */

import { ZSTDDecoder } from "zstddec/stream";

import { type Region, product, rows, sizes } from "./core/arrays";
import { UserError } from "./core/errors";
import { madeImage } from "./core/made";
import { measure, toCsv } from "./core/measure";
import type { Network } from "./core/predictor";
import { segment } from "./core/segment";
import type { Opened } from "./io/opened";
import { openImage, readImage } from "./io/read";
import { toGeoJson, toRoiZip } from "./io/write_outlines";
import { labelsToTiff } from "./io/write_tiff";
import type { Answer, Answers, Ask, Job, ModelSource } from "./messages";
import { type Provider, type Runtime, cardOf, loadNetwork, prepare } from "./ort";

const MAX_PROBABILITIES = 1 << 24; // pixels whose probabilities are kept to be looked at
const SHOWN_CLASSES = 3;

let runtime = "";
let provider: Provider = "wasm";
let runtimeReady: Promise<void> | null = null;
let opened: { file: File; image: Opened } | null = null;
let loaded: { name: string; file: Blob | undefined; network: Network } | null = null;

type Report = (stage: "model" | "size" | "network" | "cells", done: number, of: number) => void;

async function fetched(url: string, what: string): Promise<Uint8Array<ArrayBuffer>> {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new UserError(`The ${what} could not be loaded; the page needs its own server for that once.`);
  }
  if (!answer.ok) throw new UserError(`The ${what} could not be loaded (${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function readyRuntime(): Promise<void> {
  const packed = await fetched(`${runtime}/${provider}.wasm.zst`, "program that runs the models");
  const decoder = new ZSTDDecoder();
  await decoder.init();
  prepare((await import(`${runtime}/${provider}.js`)) as Runtime, decoder.decode(packed).slice().buffer);
}

async function bytesOf(model: ModelSource): Promise<Uint8Array<ArrayBuffer>> {
  if (model.file) return new Uint8Array(await model.file.arrayBuffer());
  return fetched(model.url!, `model ${model.name}`);
}

async function networkOf(model: ModelSource, report: Report): Promise<Network> {
  if (loaded?.name === model.name && loaded.file === model.file) return loaded.network;
  report("model", 0, 1);
  runtimeReady ??= readyRuntime();
  await runtimeReady.catch((error: unknown) => {
    runtimeReady = null; // so that it is tried again
    throw error;
  });
  const network = loadNetwork(await bytesOf(model), model.name, provider);
  loaded = { name: model.name, file: model.file, network };
  return network;
}

async function segmented(job: Extract<Job, { kind: "segment" }>, report: Report): Promise<Answers["segment"]> {
  const { image } = job;
  const network = await networkOf(job.model, report);
  const began = performance.now();
  const pixels = product(image.shape);
  const probabilities = pixels <= MAX_PROBABILITIES ? new Uint8Array(SHOWN_CLASSES * pixels) : null;
  const seen = probabilities
    ? (values: Float32Array, region: Region): void => keep(values, region, image.shape, probabilities)
    : undefined;
  const found = await segment(network, image, job.diameter, report, seen);
  const seconds = (performance.now() - began) / 1000;
  const table = measure(found, image);
  return { labels: found.data, table, probabilities, estimated: found.estimated, seconds };
}

/** Note the probabilities of a region as bytes. */
function keep(values: Float32Array, region: Region, shape: number[], all: Uint8Array): void {
  const [n, pixels] = [product(sizes(region)), product(shape)];
  const width = region.at(-1)![1] - region.at(-1)![0];
  for (let k = 0; k < SHOWN_CLASSES; k++) {
    let from = k * n;
    for (const row of rows(shape, region)) {
      for (let x = 0; x < width; x++) all[k * pixels + row + x] = Math.round(255 * values[from++]!);
    }
  }
}

async function written(job: Extract<Job, { kind: "write" }>): Promise<Blob> {
  const { image, table, kept } = job;
  if (job.what === "csv") return new Blob([toCsv(table, kept)], { type: "text/csv" });
  const data = job.labels.map((label) => (kept[label] ? label : 0));
  if (job.what === "labels") return labelsToTiff({ data, count: table.count }, image.shape, image.spacing);
  const planes = { data, shape: image.shape };
  if (job.what === "geojson") return new Blob([toGeoJson(planes, table)], { type: "application/geo+json" });
  const zip = toRoiZip(planes);
  if (!zip) throw new UserError("The image is wider or higher than ImageJ's ROIs reach (32,767 pixels); take GeoJSON.");
  return new Blob([zip], { type: "application/zip" });
}

/** The file, opened unless it is the one that is open. */
async function openOnce(file: File): Promise<Opened> {
  const same = opened?.file.name === file.name && opened.file.size === file.size && opened.file.lastModified === file.lastModified;
  if (!opened || !same) {
    opened = null;
    opened = { file, image: await openImage(file, file.name) };
  }
  return opened.image;
}

async function done(job: Job, report: Report): Promise<Answers[keyof Answers]> {
  switch (job.kind) {
    case "open":
      return (await openOnce(job.file)).header;
    case "read":
      return readImage(await openOnce(job.file), job.choice);
    case "made":
      return madeImage(job.stack, job.seed);
    case "card":
      return cardOf(await bytesOf(job.model), job.model.name);
    case "segment":
      return segmented(job, report);
    case "write":
      return written(job);
  }
}

function post(answer: Answer, moved: Transferable[] = []): void {
  self.postMessage(answer, { transfer: moved });
}

/** What may go to the page without a copy. */
function movable(answer: Answers[keyof Answers]): Transferable[] {
  if ("labels" in answer) {
    return [answer.labels.buffer, ...(answer.probabilities ? [answer.probabilities.buffer] : [])] as Transferable[];
  }
  return "shape" in answer ? [answer.data.buffer as ArrayBuffer] : [];
}

/** What went wrong, in words; a mistake of ours says so. */
function told(error: unknown): { error: string; expected: boolean } {
  if (error instanceof UserError) return { error: error.message, expected: true };
  if (error instanceof RangeError && /alloc|memory|length/i.test(error.message)) {
    return { error: "The browser has no memory left for this image; take a part of it, or cleft segment.", expected: true };
  }
  return { error: `Something went wrong that is the page's fault: ${String(error)}`, expected: false };
}

self.onmessage = async ({ data }: MessageEvent<Ask>): Promise<void> => {
  if ("setup" in data) {
    ({ runtime, provider } = data.setup);
    return;
  }
  const { id, job } = data;
  try {
    const answer = await done(job, (stage, n, of) => post({ id, progress: { stage, done: n, of } }));
    post({ id, answer }, movable(answer));
  } catch (error) {
    post({ id, ...told(error) });
  }
};
