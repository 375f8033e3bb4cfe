/** Asking a network: an image in, the class of each pixel out, block by block: `cleft.prediction.predictor`. */

import { type Image, type Region, copyRegion, product, sizes, whole } from "./arrays";
import { type Card, fieldRadius, netStride } from "./card";
import { type Limits, rescale } from "./intensity";
import type { Scale } from "./scale";

const MAX_ACTIVATION_BYTES = 1 << 30; // of what wasm can hold, 4 GB
const LIVE_ACTIVATIONS = 7; // numbers of the first level's width alive at once for each pixel
const NUMBER_BYTES = 4;

/** A network that runs: normalised pixels in, extent a multiple of its stride; numbers of each class out. */
export interface Network {
  card: Card;
  /** (1, 1, *shape) to probabilities (K, *shape). */
  probabilities(pixels: Float32Array, shape: readonly number[]): Promise<Float32Array>;
  /** (1, 1, *shape) to how large cells are at each place, (26, places); null of a network that doesn't tell. */
  sizes: ((pixels: Float32Array, shape: readonly number[]) => Promise<Float32Array>) | null;
}

export type Progress = (done: number, of: number) => void;

/** Called with the probabilities of each block as they come. */
export type Seen = (probabilities: Float32Array, region: Region) => void;

/** The class of each pixel: 0 background, 1 cell, 2 touching. */
export async function classesOf(
  network: Network,
  image: Image,
  limits: Limits,
  scale: Scale,
  progress: Progress,
  seen: Seen = () => undefined,
): Promise<Uint8Array> {
  const blocks = blocksOf(scale, network.card);
  const classes = new Uint8Array(product(image.shape));
  progress(0, blocks.length);
  for (const [done, region] of blocks.entries()) {
    const { values, within } = await probabilitiesAround(network, image, limits, scale, region);
    const found = scale.toImage(values, network.card.net.n_classes, within, region);
    seen(found, region);
    const here = likeliest(found, product(sizes(region)));
    copyRegion(here, sizes(region), whole(sizes(region)), classes, image.shape, region);
    progress(done + 1, blocks.length);
  }
  return classes;
}

/** What the network says of the pixels that a region is interpolated from. */
async function probabilitiesAround(
  network: Network,
  image: Image,
  limits: Limits,
  scale: Scale,
  region: Region,
): Promise<{ values: Float32Array; within: Region }> {
  const core = scale.networkRegion(region);
  const [radius, stride] = [fieldRadius(network.card), netStride(network.card)];
  // tiles begin at multiples of the stride and are read with a halo as wide as the network sees
  const within = core.map(([start, stop], axis) => {
    const [halo, step, n] = [radius[axis]!, stride[axis]!, scale.networkShape[axis]!];
    const first = Math.max(0, Math.floor((start - halo) / step) * step);
    return [first, Math.min(n, Math.ceil(Math.min(stop + halo, n) / step) * step)] as const;
  });
  const from = scale.imageRegion(within);
  const pixels = scale.toNetwork(rescale(image.data, image.shape, from, limits), within);
  return { values: await predict(network, pixels, sizes(within)), within };
}

/** Probabilities (K, *shape) of pixels of any extent, the last one repeated up to the network's stride. */
export async function predict(network: Network, pixels: Float32Array, shape: number[]): Promise<Float32Array> {
  const [padded, extent] = padToMultiple(pixels, shape, netStride(network.card));
  const values = await network.probabilities(padded, extent);
  if (extent.every((n, axis) => n === shape[axis])) return values;
  const classes = network.card.net.n_classes;
  const found = new Float32Array(classes * product(shape));
  const of = (s: number[]): Region => [[0, classes], ...whole(s)];
  copyRegion(values, [classes, ...extent], of(shape), found, [classes, ...shape], of(shape));
  return found;
}

/** Pixels with the last one along each axis repeated until extents are multiples; and those extents. */
export function padToMultiple(
  pixels: Float32Array,
  shape: readonly number[],
  multiple: readonly number[],
): [Float32Array, number[]] {
  const extent = shape.map((n, axis) => Math.ceil(n / multiple[axis]!) * multiple[axis]!);
  if (product(extent) === product(shape)) return [pixels, extent];
  const padded = new Float32Array(product(extent));
  copyRegion(pixels, shape, whole(shape), padded, extent, whole(shape));
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const inner = product(extent.slice(axis + 1));
    const length = extent[axis]!;
    for (let line = 0; line < padded.length / inner / length; line++) {
      const last = (line * length + shape[axis]! - 1) * inner;
      for (let i = shape[axis]!; i < length; i++) padded.copyWithin((line * length + i) * inner, last, last + inner);
    }
  }
  return [padded, extent];
}

/** The likeliest of background, cell and touching at each of n pixels; the lower class where two are equal. */
export function likeliest(values: Float32Array, n: number): Uint8Array {
  const classes = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const background = values[i]!;
    const cell = values[n + i]!;
    const touching = values[2 * n + i]!;
    classes[i] = touching > Math.max(cell, background) ? 2 : cell > background ? 1 : 0;
  }
  return classes;
}

/** Blocks of the image, each small enough to be computed at once with what is read around it. */
export function blocksOf(scale: Scale, card: Card): Region[] {
  const most = MAX_ACTIVATION_BYTES / (NUMBER_BYTES * LIVE_ACTIVATIONS * card.net.width);
  const tile = chooseTile(scale.networkShape, card, most);
  const block = tile.map((n, axis) => Math.max(1, Math.floor(n * scale.steps[axis]!)));
  let found: Region[] = [[]];
  scale.shape.forEach((n, axis) => {
    const size = block[axis]!;
    const along = Array.from({ length: Math.ceil(n / size) }, (_, i) => [i * size, Math.min((i + 1) * size, n)] as const);
    found = found.flatMap((box) => along.map((range) => [...box, range]));
  });
  return found;
}

/** The whole image if so many pixels allow, or equal tiles of it that do with what is read around them. */
export function chooseTile(shape: readonly number[], card: Card, most: number): number[] {
  const [stride, reach] = [netStride(card), fieldRadius(card)];
  const parts = shape.map(() => 1);
  const cut = (more = -1): number[] =>
    shape.map((n, a) => {
      const step = stride[a]!;
      return Math.max(step, Math.ceil(n / ((parts[a]! + (a === more ? 1 : 0)) * step)) * step);
    });
  const read = (tile: number[]): number => product(tile.map((n, a) => Math.min(shape[a]!, n + 2 * reach[a]!)));
  for (let tile = cut(); read(tile) > most; tile = cut()) {
    const finer = shape.map((_, a) => a).filter((a) => tile[a]! > stride[a]!);
    if (!finer.length) break;
    // along the axis where it helps most; of equals along the longest
    finer.sort((a, b) => read(cut(a)) - read(cut(b)) || tile[b]! - tile[a]!);
    parts[finer[0]!]!++;
  }
  return cut().map((n, a) => Math.min(n, shape[a]!));
}
