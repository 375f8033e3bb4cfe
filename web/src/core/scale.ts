/** Where the pixels of an image lie among those of the network, and values from one to the other: `cleft.prediction.scale`. */

import { type Region, clamp, product, round, sizes } from "./arrays";
import type { Card } from "./card";
import { UserError } from "./errors";

const MIN_DIAMETER = 2; // pixels: what is smaller is noise
export const MIN_RATIO = 1 / 8;
export const MAX_RATIO = 32; // of a diameter to the learnt one; beyond it's most likely a mistake
const TRAINING_SCALE = 1.3; // an estimate as near to the learnt diameter is not better than it
const TRUNCATE = 4; // standard deviations at which a Gaussian ends

/** Pixels along the last axis, "auto", or "keep", the image as it is; null is what the model does by default. */
export type Diameter = number | "auto" | "keep" | null;

export function orDefault(card: Card, diameter: Diameter): number | string {
  return diameter ?? card.default_diameter ?? "keep";
}

/** A diameter as the edge of the cube that a ball's bounding box would be in cubic pixels. */
export function diameterInPixels(diameter: number, spacing: readonly number[] | null): number {
  const value = spacing === null ? diameter : (diameter * spacing.at(-1)!) / product(spacing) ** (1 / spacing.length);
  if (!(value >= MIN_DIAMETER)) {
    throw new UserError(`The diameter is ${diameter} pixels; expected at least ${MIN_DIAMETER}.`);
  }
  return value;
}

/** Pixels of the image for one of the network along each axis: the one decision about scale. */
export function chooseFactors(
  card: Card,
  diameter: Diameter,
  spacing: readonly number[] | null,
  estimated: number | null,
): number[] {
  const wanted = orDefault(card, diameter);
  let pixels: number | null = null;
  if (wanted === "auto") pixels = estimated === null ? null : eased(card, estimated);
  else if (typeof wanted === "number") pixels = diameterInPixels(wanted, spacing);
  return pixels === null ? [...card.shrink] : factorsFor(card, pixels, spacing);
}

/** The diameter to resample by, of one estimated; null where the image is best left as it is. */
function eased(card: Card, estimated: number): number | null {
  const ratio = estimated / card.cell_diameter;
  if (1 / TRAINING_SCALE <= ratio && ratio <= TRAINING_SCALE) return null;
  if (card.default_diameter === null) return estimated;
  return ratio > 1 ? estimated / TRAINING_SCALE : estimated * TRAINING_SCALE;
}

export function factorsFor(card: Card, diameter: number, spacing: readonly number[] | null): number[] {
  const ratio = diameter / card.cell_diameter;
  if (!(MIN_RATIO <= ratio && ratio <= MAX_RATIO)) {
    const [low, high] = [MIN_RATIO, MAX_RATIO].map((r) => (r * card.cell_diameter).toFixed(0));
    throw new UserError(
      `The cells are ${diameter.toFixed(1)} pixels across, but the model takes cells of ${low} to ${high}.`,
    );
  }
  let learnt = card.shrink;
  if (spacing !== null && card.spacing_um !== null) {
    const shape = card.spacing_um.map((s, axis) => s / spacing[axis]!);
    const even = (product(learnt) / product(shape)) ** (1 / shape.length);
    learnt = shape.map((s) => s * even);
  }
  return learnt.map((n) => n * ratio);
}

/** The pixels that others are sums of, (taps, pixels), and their weights. */
interface Taps {
  at: Int32Array[];
  weights: Float32Array[];
}

/** An image and the same in pixels of the network, by so many pixels of the image for each of the network. */
export class Scale {
  readonly whole: boolean;
  readonly identity: boolean;
  readonly networkShape: number[];
  readonly steps: number[];

  constructor(
    readonly shape: readonly number[],
    readonly factors: readonly number[],
  ) {
    this.whole = factors.every((f) => f >= 1 && Number.isInteger(f));
    this.identity = factors.every((f) => f === 1);
    this.networkShape = shape.map((n, a) =>
      this.whole ? Math.ceil(n / factors[a]!) : Math.max(1, round(n / factors[a]!)),
    );
    this.steps = this.whole ? [...factors] : shape.map((n, a) => n / this.networkShape[a]!);
  }

  /** The network pixels that the pixels of a region are interpolated from. */
  networkRegion(region: Region): Region {
    if (this.identity) return region;
    return region.map(([start, stop], axis) => {
      const { near, far } = this.neighbours(axis, start, stop);
      const ends = [near[0]!, near.at(-1)!, far[0]!, far.at(-1)!];
      return [Math.min(...ends), Math.max(...ends) + 1] as const;
    });
  }

  /** The pixels of the image that network pixels are made of. */
  imageRegion(region: Region): Region {
    return region.map(([start, stop], axis) => {
      if (this.whole) {
        const f = this.factors[axis]!;
        return [start * f, Math.min(stop * f, this.shape[axis]!)] as const;
      }
      const { at } = this.taps(axis, start, stop);
      return [at[0]![0]!, at.at(-1)!.at(-1)! + 1] as const;
    });
  }

  /** Network pixels of a region from the image's pixels of its `imageRegion`. */
  toNetwork(pixels: Float32Array, region: Region): Float32Array {
    const from = this.imageRegion(region);
    let shape = sizes(from);
    for (let axis = 0; axis < shape.length; axis++) {
      const [start, stop] = region[axis]!;
      const next = shape.with(axis, stop - start);
      const f = this.factors[axis]!;
      if (!this.whole) pixels = weighted(pixels, shape, axis, this.taps(axis, start, stop), from[axis]![0]);
      else if (f > 1) pixels = averaged(pixels, shape, axis, f);
      shape = next;
    }
    return pixels;
  }

  /** Values of each class, (K, *within), at the pixels of a region of the image. */
  toImage(values: Float32Array, classes: number, within: Region, region: Region): Float32Array {
    let shape = [classes, ...sizes(within)];
    for (let axis = 0; axis < region.length; axis++) {
      const { near, far, weight } = this.neighbours(axis, ...region[axis]!);
      values = interpolated(values, shape, axis + 1, near, far, weight, within[axis]![0]);
      shape = shape.with(axis + 1, near.length);
    }
    return values;
  }

  /** Of pixels of the image the nearest network pixel, that on the other side, and its weight. */
  private neighbours(axis: number, start: number, stop: number): { near: Int32Array; far: Int32Array; weight: Float32Array } {
    const n = stop - start;
    const [near, far, weight] = [new Int32Array(n), new Int32Array(n), new Float32Array(n)];
    const last = this.networkShape[axis]! - 1;
    for (let i = 0; i < n; i++) {
      const place = (start + i + 0.5) / this.steps[axis]! - 0.5;
      const low = Math.floor(place);
      const share = place - low;
      near[i] = clamp(share < 0.5 ? low : low + 1, 0, last);
      far[i] = clamp(share < 0.5 ? low + 1 : low, 0, last);
      weight[i] = Math.min(share, 1 - share);
    }
    return { near, far, weight };
  }

  private taps(axis: number, start: number, stop: number): Taps {
    const step = this.steps[axis]!;
    const sigma = Math.max(0, (step - 1) / 2);
    const radius = Math.floor(TRUNCATE * sigma + 0.5);
    const bell = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / Math.max(sigma, 1e-9)) ** 2));
    const sum = bell.reduce((a, b) => a + b, 0);
    const n = stop - start;
    const at: Int32Array[] = [];
    const weights: Float32Array[] = [];
    for (let tap = 0; tap <= 2 * radius + 1; tap++) {
      const [places, weight] = [new Int32Array(n), new Float32Array(n)];
      const here = (bell[tap] ?? 0) / sum;
      const before = (bell[tap - 1] ?? 0) / sum; // one further for the pixel above
      for (let i = 0; i < n; i++) {
        const place = (start + i + 0.5) * step - 0.5;
        const low = Math.floor(place);
        const share = place - low;
        places[i] = clamp(low + tap - radius, 0, this.shape[axis]! - 1);
        weight[i] = here * (1 - share) + before * share;
      }
      at.push(places);
      weights.push(weight);
    }
    return { at, weights };
  }
}

/** Around an axis: how many lines there are before it, and how many items lie from one of its pixels to the next. */
function around(shape: readonly number[], axis: number): [number, number] {
  return [product(shape.slice(0, axis)), product(shape.slice(axis + 1))];
}

/** Sums of pixels along an axis, one tap after the other, each in single precision as in Python. */
function weighted(pixels: Float32Array, shape: readonly number[], axis: number, taps: Taps, first: number): Float32Array {
  const [outer, inner] = around(shape, axis);
  const length = shape[axis]!;
  const n = taps.at[0]!.length;
  const total = new Float32Array(outer * n * inner);
  taps.at.forEach((places, tap) => {
    const weights = taps.weights[tap]!;
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < n; i++) {
        const source = (o * length + places[i]! - first) * inner;
        const target = (o * n + i) * inner;
        const weight = weights[i]!;
        for (let k = 0; k < inner; k++) {
          total[target + k] = total[target + k]! + Math.fround(pixels[source + k]! * weight);
        }
      }
    }
  });
  return total;
}

/** The mean of blocks of pixels along an axis, the last pixel repeated where a block leaves the image. */
function averaged(pixels: Float32Array, shape: readonly number[], axis: number, f: number): Float32Array {
  const [outer, inner] = around(shape, axis);
  const length = shape[axis]!;
  const n = Math.ceil(length / f);
  const found = new Float32Array(outer * n * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < n; i++) {
      const target = (o * n + i) * inner;
      for (let phase = 0; phase < f; phase++) {
        const source = (o * length + Math.min(i * f + phase, length - 1)) * inner;
        for (let k = 0; k < inner; k++) found[target + k] = found[target + k]! + pixels[source + k]!;
      }
      for (let k = 0; k < inner; k++) found[target + k] = found[target + k]! / f;
    }
  }
  return found;
}

function interpolated(
  values: Float32Array,
  shape: readonly number[],
  axis: number,
  near: Int32Array,
  far: Int32Array,
  weight: Float32Array,
  first: number,
): Float32Array {
  const [outer, inner] = around(shape, axis);
  const length = shape[axis]!;
  const n = near.length;
  const found = new Float32Array(outer * n * inner);
  const between = weight.some((w) => w !== 0);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < n; i++) {
      const a = (o * length + near[i]! - first) * inner;
      const b = (o * length + far[i]! - first) * inner;
      const target = (o * n + i) * inner;
      if (!between) {
        found.set(values.subarray(a, a + inner), target);
        continue;
      }
      const w = weight[i]!;
      for (let k = 0; k < inner; k++) {
        const here = values[a + k]!;
        found[target + k] = here + Math.fround(Math.fround(values[b + k]! - here) * w);
      }
    }
  }
  return found;
}
