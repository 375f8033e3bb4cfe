/** Intensities to a common scale, by percentiles of the whole image: `cleft.core.intensity`. */

import { type Numbers, type Range, type Region, clamp, copyRegion, product, rows, sizes, whole } from "./arrays";

const ENOUGH = 1 << 22; // pixels a percentile is taken from
const SPOTS = 6; // places along each axis that a sample is taken at
const CLIP_MIN = -1;
const CLIP_MAX = 5; // of what the network is given
const NORMAL_MEDIAN = 0.6745; // of the absolute value, where the standard deviation is 1

/** What becomes 0 and what becomes 1. */
export type Limits = readonly [number, number];

export function intensityLimits(
  data: Numbers,
  shape: readonly number[],
  percentiles: readonly [number, number],
  noiseFloor: number,
): Limits {
  const boxes = sampleBoxes(shape);
  const sample = takeSample(data, shape, boxes);
  sample.sort(); // typed arrays sort by value
  const low = percentileOf(sample, percentiles[0]);
  let high = percentileOf(sample, percentiles[1]);
  if (high <= low) return extremes(data);
  if (noiseFloor) high = Math.max(high, low + noiseFloor * estimateNoise(data, shape, boxes));
  return [low, high];
}

/** Of sorted numbers, as numpy interpolates it. */
export function percentileOf(sorted: Numbers, percent: number): number {
  const place = (sorted.length - 1) * (percent / 100);
  const below = Math.floor(place);
  const a = sorted[below]!;
  const b = sorted[Math.min(below + 1, sorted.length - 1)]!;
  const t = place - below;
  const step = sorted instanceof Float32Array ? Math.fround(b - a) : b - a;
  return t >= 0.5 ? b - step * (1 - t) : a + step * t;
}

/** The standard deviation of noise that is independent from pixel to pixel: the diagonal of squares of four pixels. */
export function estimateNoise(data: Numbers, shape: readonly number[], boxes: Region[]): number {
  const found: Float64Array[] = [];
  for (const box of boxes) {
    const extent = sizes(box);
    const [h, w] = extent.slice(-2) as [number, number];
    if (extent.length < 2 || Math.min(h, w) < 2) continue;
    const here = new Float64Array((product(extent) / (h * w)) * (h - 1) * (w - 1));
    const starts = [...rows(shape, box)];
    let n = 0;
    for (let i = 0; i + 1 < starts.length; i++) {
      if (i % h === h - 1) continue; // the last row of a plane
      const upper = starts[i]!;
      const lower = starts[i + 1]!;
      for (let x = 0; x < w - 1; x++) {
        const above = data[upper + x + 1]! - data[upper + x]!;
        here[n++] = Math.abs(data[lower + x + 1]! - data[lower + x]! - above) / 2;
      }
    }
    found.push(here);
  }
  if (!found.length) return 0;
  const all = new Float64Array(found.reduce((n, f) => n + f.length, 0));
  let at = 0;
  for (const part of found) {
    all.set(part, at);
    at += part.length;
  }
  all.sort();
  const middle = all.length >> 1;
  const median = all.length % 2 ? all[middle]! : (all[middle - 1]! + all[middle]!) / 2;
  return median / NORMAL_MEDIAN;
}

/** Make the limits 0 and 1 and keep what is within [-1, 5]. */
export function rescale(data: Numbers, shape: readonly number[], region: Region, [low, high]: Limits): Float32Array {
  const scale = high > low ? 1 / (high - low) : 0;
  const found = new Float32Array(product(sizes(region)));
  const length = region.at(-1)![1] - region.at(-1)![0];
  let n = 0;
  for (const a of rows(shape, region)) {
    for (let i = a; i < a + length; i++) found[n++] = clamp((data[i]! - low) * scale, CLIP_MIN, CLIP_MAX);
  }
  return found;
}

/** Boxes that hold about `ENOUGH` pixels together; one box, the image, if it has no more. */
export function sampleBoxes(shape: readonly number[]): Region[] {
  const share = Math.min(1, (ENOUGH / product(shape)) ** (1 / shape.length));
  if (share === 1) return [whole(shape)];
  let boxes: Range[][] = [[]];
  for (const n of shape) {
    const spots = Math.min(SPOTS, n);
    // an odd length doesn't fall in with rows that alternate
    const length = Math.min(Math.floor(n / spots), Math.ceil((share * n) / spots) | 1);
    const along = Array.from({ length: spots }, (_, i): Range => {
      const a = Math.floor(((2 * i + 1) * n) / (2 * spots)) - Math.floor(length / 2);
      return [Math.max(0, a), Math.max(0, a) + length];
    });
    boxes = boxes.flatMap((box) => along.map((range) => [...box, range]));
  }
  return boxes;
}

function takeSample(data: Numbers, shape: readonly number[], boxes: Region[]): Numbers {
  const kind = data.constructor as new (n: number) => Numbers;
  const sample = new kind(boxes.reduce((n, box) => n + product(sizes(box)), 0));
  let at = 0;
  for (const box of boxes) {
    const extent = sizes(box);
    const n = product(extent);
    copyRegion(data, shape, box, sample.subarray(at, at + n), extent, whole(extent));
    at += n;
  }
  return sample;
}

function extremes(data: Numbers): Limits {
  let low = Infinity;
  let high = -Infinity;
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
