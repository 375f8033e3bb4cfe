/** How well a model agrees with itself from one scale to the next: `cleft.prediction.diameter`. */

import { type Image, type Region, clamp, product, round, sizes } from "./arrays";
import type { Card } from "./card";
import { type Limits, rescale } from "./intensity";
import { type Labels, labelImage, pixelsOf } from "./labels";
import { type Network, likeliest, predict } from "./predictor";
import { Scale, factorsFor } from "./scale";

const VIEW_PIXELS: Record<number, number> = { 2: 1 << 17, 3: 1 << 18 }; // of the network, by the number of axes
const WIDEST_VIEW = 6; // ratio from which on no more of the image is read
const CHANCE_CELLS = 6; // that are found twice by chance

/** What a model finds in a part of an image at a scale, in the network's pixels. */
export interface View extends Labels {
  part: Region;
  shape: number[];
}

/** How well the labels at each ratio to the learnt diameter agree with those at the next. */
export async function agreements(
  network: Network,
  image: Image,
  limits: Limits,
  ratios: readonly number[],
  look: () => void,
): Promise<number[]> {
  const found: number[] = [];
  let before: View | null = null;
  for (const ratio of ratios) {
    const view = await viewAt(network, image, limits, ratio);
    look();
    if (before) found.push(agreement(before, view));
    before = view;
  }
  return found;
}

async function viewAt(network: Network, image: Image, limits: Limits, ratio: number): Promise<View> {
  const { card } = network;
  const factors = factorsFor(card, ratio * card.cell_diameter, image.spacing);
  const part = middle(image.shape, factors.map((f) => f * Math.min(1, WIDEST_VIEW / ratio)));
  const [pixels, shape] = shownPart(image, limits, part, factors);
  const likely = await predict(network, pixels, shape);
  const labels = labelImage(likeliest(likely, product(shape)), shape, null);
  return { ...labels, part, shape };
}

/** A part of an image in the network's pixels, as if it were the whole; and their extents. */
export function shownPart(
  image: Image,
  limits: Limits,
  part: Region,
  factors: readonly number[],
): [Float32Array, number[]] {
  const scale = new Scale(sizes(part), factors);
  const within = scale.networkShape.map((n) => [0, n] as const);
  const from = scale.imageRegion(within).map(([a, b], axis) => [a + part[axis]![0], b + part[axis]![0]] as const);
  return [scale.toNetwork(rescale(image.data, image.shape, from, limits), within), scale.networkShape];
}

/** How alike the labels of a part of the image are to those of a larger part, which holds it. */
export function agreement(small: View, large: View): number {
  const index = small.part.map(([start, stop], axis) => {
    const [there, beyond] = large.part[axis]!;
    const [n, m] = [small.shape[axis]!, large.shape[axis]!];
    return Int32Array.from({ length: n }, (_, i) => {
      const place = start + ((i + 0.5) * (stop - start)) / n;
      return Math.trunc(clamp(((place - there) * m) / (beyond - there), 0, m - 1));
    });
  });
  const others = picked(large.data, large.shape, index);
  const [mine, theirs] = [pixelsOf(small.data, small.count), pixelsOf(others, large.count)];
  const shared = new Map<number, number>();
  for (let i = 0; i < others.length; i++) {
    if (!small.data[i] || !others[i]) continue;
    const key = small.data[i]! * (large.count + 1) + others[i]!;
    shared.set(key, (shared.get(key) ?? 0) + 1);
  }
  let iouSum = 0;
  for (const [key, pixels] of shared) {
    const [a, b] = [Math.floor(key / (large.count + 1)), key % (large.count + 1)];
    const iou = pixels / (mine[a]! + theirs[b]! - pixels);
    if (iou > 0.5) iouSum += iou;
  }
  const cells = small.count + theirs.slice(1).filter((n) => n > 0).length;
  return iouSum / (cells / 2 + CHANCE_CELLS);
}

/** The labels at the given places along each axis. */
function picked(labels: Uint32Array, shape: readonly number[], index: Int32Array[]): Uint32Array {
  let found = labels;
  let extent = [...shape];
  index.forEach((places, axis) => {
    const inner = product(extent.slice(axis + 1));
    const outer = product(extent.slice(0, axis));
    const next = new Uint32Array(outer * places.length * inner);
    for (let o = 0; o < outer; o++) {
      places.forEach((place, i) => {
        const a = (o * extent[axis]! + place) * inner;
        next.set(found.subarray(a, a + inner), (o * places.length + i) * inner);
      });
    }
    found = next;
    extent = extent.with(axis, places.length);
  });
  return found;
}

/** The middle of an image, as many pixels of the network as are looked at. */
function middle(shape: readonly number[], factors: readonly number[]): Region {
  const edge = VIEW_PIXELS[shape.length]! ** (1 / shape.length);
  return shape.map((n, axis) => {
    const wanted = Math.min(n, round(edge * factors[axis]!));
    const start = Math.floor((n - wanted) / 2);
    return [start, start + wanted] as const;
  });
}

/** Of the ratios, those for cells of which several would have room in the image. */
export function ratiosWithin(card: Card, shape: readonly number[], ratios: readonly number[]): number[] {
  const [minCellsAcross, minRatios] = [2, 6];
  const largest = Math.max(...shape) / minCellsAcross / card.cell_diameter;
  return ratios.filter((r, n) => n < minRatios || r <= largest);
}
