/** What tests ask of the stages in node: jobs as JSON, arrays as files. Not part of the page. */

import { readFileSync, writeFileSync } from "node:fs";

import * as ort from "onnxruntime-web/wasm";

import { type Numbers, type Region, sizes } from "../core/arrays";
import { intensityLimits, rescale } from "../core/intensity";
import { labelImage } from "../core/labels";
import { measure } from "../core/measure";
import { outlinesOf } from "../core/outlines";
import type { Network } from "../core/predictor";
import { Scale, type Diameter } from "../core/scale";
import { segment } from "../core/segment";
import { type Choice, openImage, readImage } from "../io/read";
import { toRoiZip } from "../io/write_outlines";
import { labelsToTiff } from "../io/write_tiff";
import { loadNetwork, prepare } from "../ort";

const KINDS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  float32: Float32Array, float64: Float64Array,
};
const networks = new Map<string, Network>();
const EVERYTHING: Choice = { pagesAre: "Z", channel: 0, time: 0, plane: "all", spacing: {} };

/** Numbers in the bytes of a file. */
interface Stored {
  path: string;
  dtype: keyof typeof KINDS;
  shape: number[];
}

type Job =
  | { kind: "segment"; model: string; image: string; out: string; diameter: Diameter; choice?: Partial<Choice> }
  | { kind: "labels"; classes: Stored; spacing: number[] | null; minSizes: [number, number]; out: string }
  | { kind: "limits"; image: Stored; percentiles: [number, number]; noiseFloor: number; out: string }
  | { kind: "toNetwork"; image: Stored; factors: number[]; region: Region; out: string }
  | { kind: "toImage"; values: Stored; shape: number[]; factors: number[]; region: Region; within: Region; out: string }
  | { kind: "outlines"; labels: Stored }
  | { kind: "rois"; labels: Stored; out: string }
  | { kind: "measure"; labels: Stored; image: Stored; spacing: number[] | null };

function read({ path, dtype }: Stored): Numbers {
  const bytes = readFileSync(path);
  return new KINDS[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function write(path: string, { buffer, byteOffset, byteLength }: Numbers): void {
  writeFileSync(path, new Uint8Array(buffer, byteOffset, byteLength));
}

async function done(job: Job): Promise<unknown> {
  switch (job.kind) {
    case "segment":
      return segmented(job);
    case "labels": {
      const classes = read(job.classes) as Uint8Array;
      const found = labelImage(classes, job.classes.shape, job.spacing, job.minSizes);
      write(job.out, found.data);
      return found.count;
    }
    case "limits": {
      const { shape } = job.image;
      const data = read(job.image);
      const limits = intensityLimits(data, shape, job.percentiles, job.noiseFloor);
      write(job.out, rescale(data, shape, shape.map((n) => [0, n]), limits));
      return limits;
    }
    case "toNetwork": {
      const scale = new Scale(job.image.shape, job.factors);
      const from = scale.imageRegion(job.region);
      const pixels = rescale(read(job.image), job.image.shape, from, [0, 1]);
      write(job.out, scale.toNetwork(pixels, job.region));
      return [scale.networkShape, from, sizes(from)];
    }
    case "toImage": {
      const scale = new Scale(job.shape, job.factors);
      write(job.out, scale.toImage(read(job.values) as Float32Array, job.values.shape[0]!, job.within, job.region));
      return scale.networkRegion(job.region);
    }
    case "outlines": {
      const [height, width] = job.labels.shape as [number, number];
      return [...outlinesOf(read(job.labels) as Uint32Array, width, height)];
    }
    case "rois": {
      const zip = toRoiZip({ data: read(job.labels) as Uint32Array, shape: job.labels.shape });
      if (zip) write(job.out, zip);
      return zip !== null;
    }
    case "measure": {
      const data = read(job.labels) as Uint32Array;
      const image = { data: read(job.image), shape: job.image.shape, spacing: job.spacing };
      const { columns } = measure({ data, count: data.reduce((a, b) => Math.max(a, b), 0) }, image);
      return Object.fromEntries([...columns].map(([name, values]) => [name, [...values]]));
    }
  }
}

async function segmented(job: Extract<Job, { kind: "segment" }>): Promise<unknown> {
  const network = networks.get(job.model) ?? loadNetwork(new Uint8Array(readFileSync(job.model)), job.model);
  networks.set(job.model, network);
  const opened = await openImage(new Blob([readFileSync(job.image)]), job.image);
  const image = await readImage(opened, { ...EVERYTHING, ...job.choice });
  const began = performance.now();
  const found = await segment(network, image, job.diameter);
  const seconds = (performance.now() - began) / 1000;
  const file = await labelsToTiff(found, image.shape, image.spacing);
  writeFileSync(job.out, new Uint8Array(await file.arrayBuffer()));
  const { estimated, factors, count } = found;
  return { estimated, factors, count, seconds, spacing: image.spacing };
}

prepare(ort);
for (const job of JSON.parse(readFileSync(0, "utf8")) as Job[]) {
  try {
    console.log(JSON.stringify({ answer: await done(job) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
