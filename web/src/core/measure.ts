/** Numbers of each cell, in one pass over labels and image. */

import { type Image, product } from "./arrays";
import { type Labels, atBorder } from "./labels";

/** Columns by name, each a number for every label, 0 (background) first. */
export interface Table {
  count: number;
  columns: Map<string, Float64Array>;
}

const DIAMETER_UNIT: Record<number, number> = { 2: Math.PI / 4, 3: Math.PI / 6 }; // pixels of a ball of diameter 1

/** Columns are named as those of `cleft measure` (src/cleft/labels/measure.py), and stand in the same order. */
export function measure(labels: Labels, image: Image): Table {
  const { data, count } = labels;
  const ndim = image.shape.length;
  const axes = ["z", "y", "x"].slice(-ndim);
  const numbers = (fill = 0): Float64Array => new Float64Array(count + 1).fill(fill);
  const [pixels, mean, low, high] = [numbers(), numbers(), numbers(Infinity), numbers(-Infinity)];
  const centre = axes.map(() => numbers());
  const first = axes.map(() => numbers(Infinity));
  const last = axes.map(() => numbers(-Infinity));
  const at = image.shape.map(() => 0);
  const width = image.shape.at(-1)!;
  for (let i = 0; i < data.length; i++) {
    at[ndim - 1] = i % width;
    if (i > 0 && at[ndim - 1] === 0) {
      for (let a = ndim - 2; a >= 0 && ++at[a]! === image.shape[a]; a--) at[a] = 0;
    }
    const label = data[i]!;
    if (label === 0) continue;
    const value = image.data[i]!;
    pixels[label]!++;
    mean[label]! += value;
    if (value < low[label]!) low[label] = value;
    if (value > high[label]!) high[label] = value;
    for (let a = 0; a < ndim; a++) {
      const place = at[a]!;
      centre[a]![label]! += place;
      if (place < first[a]![label]!) first[a]![label] = place;
      if (place > last[a]![label]!) last[a]![label] = place;
    }
  }
  for (const sums of [mean, ...centre]) sums.forEach((sum, i) => (sums[i] = i === 0 ? 0 : sum / pixels[i]!));
  const diameter = pixels.map((n) => (n / DIAMETER_UNIT[ndim]!) ** (1 / ndim));
  const size = ndim === 2 ? "area" : "volume";
  const columns = new Map<string, Float64Array>();
  axes.forEach((a, i) => columns.set(`${a}_px`, centre[i]!));
  const { spacing } = image;
  if (spacing) axes.forEach((a, i) => columns.set(`${a}_um`, centre[i]!.map((n) => n * spacing[i]!)));
  axes.forEach((a, i) => columns.set(`${a}_min_px`, first[i]!));
  axes.forEach((a, i) => columns.set(`${a}_max_px`, last[i]!));
  columns.set(`${size}_px`, pixels).set("diameter_px", diameter);
  if (spacing) {
    const unit = product(spacing);
    columns.set(`${size}_um${ndim}`, pixels.map((n) => n * unit));
    columns.set("diameter_um", diameter.map((n) => n * unit ** (1 / ndim)));
  }
  columns.set("border", Float64Array.from(atBorder(labels, image.shape)));
  columns.set("intensity_mean", mean).set("intensity_min", low).set("intensity_max", high);
  return { count, columns };
}

/** How many pixels each label has. */
export function sizes(table: Table): Float64Array {
  return table.columns.get("area_px") ?? table.columns.get("volume_px")!;
}

/** The table as CSV, a line for each cell that is kept. */
export function toCsv(table: Table, kept: Uint8Array): string {
  const names = [...table.columns.keys()];
  const lines = [["label", ...names].join(",")];
  for (let label = 1; label <= table.count; label++) {
    if (!kept[label]) continue;
    lines.push([label, ...names.map((name) => Number(table.columns.get(name)![label]!.toPrecision(7)))].join(","));
  }
  return `${lines.join("\n")}\n`;
}
