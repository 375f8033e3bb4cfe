/** From the class of each pixel to one label per cell: `cleft.labels.blockwise.label_image`. */

import { product, strides } from "./arrays";
import { components } from "./components";
import { grow } from "./grow";

const CELL = 1;
const TOUCHING = 2;

export interface Labels {
  /** 0 background, 1 to count the cells, in raster order. */
  data: Uint32Array;
  count: number;
}

/** Pixels that a cell inside the image and one at its border must have to stay. */
export type MinSizes = readonly [number, number];

export function labelImage(
  classes: Uint8Array,
  shape: readonly number[],
  spacing: readonly number[] | null,
  minSizes: MinSizes = [0, 0],
): Labels {
  const { labels, count } = components(classes, shape, CELL);
  grow(labels, classes, TOUCHING, shape, spacing, pixelsOf(labels, count));
  return dropSmall({ data: labels, count }, shape, minSizes);
}

/** The pixels of each label, 0 first. */
export function pixelsOf(labels: Uint32Array, count: number): Float64Array {
  const found = new Float64Array(count + 1);
  for (const label of labels) found[label]!++;
  return found;
}

/** Which labels touch the image's border, and may be cut by it. */
export function atBorder({ data, count }: Labels, shape: readonly number[]): Uint8Array {
  const cut = new Uint8Array(count + 1);
  const step = strides(shape);
  shape.forEach((n, axis) => {
    const inner = step[axis]!;
    for (let outer = 0; outer < product(shape.slice(0, axis)); outer++) {
      for (const end of [0, n - 1]) {
        const start = (outer * n + end) * inner;
        for (let i = start; i < start + inner; i++) cut[data[i]!] = 1;
      }
    }
  });
  cut[0] = 0;
  return cut;
}

/** The labels without small cells, numbered without gaps, in place. */
export function dropSmall(labels: Labels, shape: readonly number[], [inside, cut]: MinSizes): Labels {
  const sizes = pixelsOf(labels.data, labels.count);
  const border = atBorder(labels, shape);
  const numbers = new Uint32Array(labels.count + 1);
  let count = 0;
  for (let label = 1; label <= labels.count; label++) {
    if (sizes[label]! > 0 && sizes[label]! >= (border[label] ? cut : inside)) numbers[label] = ++count;
  }
  const { data } = labels;
  for (let i = 0; i < data.length; i++) data[i] = numbers[data[i]!]!;
  return { data, count };
}
