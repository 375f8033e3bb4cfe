/** Numbers of each cell, in one pass over labels and image. */

import { type Image, product } from "./arrays";
import { type Labels, atBorder } from "./labels";

/** Columns by name, each a number for every label, 0 (background) first. */
export interface Table {
  count: number;
  columns: Map<string, Float64Array>;
}

const DIAMETER_UNIT: Record<number, number> = { 2: Math.PI / 4, 3: Math.PI / 6 }; // pixels of a ball of diameter 1

export function measure(labels: Labels, image: Image): Table {
  const { data, count } = labels;
  const ndim = image.shape.length;
  const axes = ["z", "y", "x"].slice(-ndim);
  const columns = new Map<string, Float64Array>();
  const column = (name: string, fill = 0): Float64Array => {
    const made = new Float64Array(count + 1).fill(fill);
    columns.set(name, made);
    return made;
  };
  const pixels = column("pixels");
  const diameter = column("diameter");
  const centre = axes.map((a) => column(a));
  const [mean, low, high] = [column("intensity_mean"), column("intensity_min", Infinity), column("intensity_max", -Infinity)];
  const first = axes.map((a) => column(`${a}_first`, Infinity));
  const last = axes.map((a) => column(`${a}_last`, -Infinity));
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
  for (let label = 1; label <= count; label++) {
    const n = pixels[label]!;
    diameter[label] = (n / DIAMETER_UNIT[ndim]!) ** (1 / ndim);
    mean[label]! /= n;
    for (const along of centre) along[label]! /= n;
  }
  const border = atBorder(labels, image.shape);
  column("at_border").set(border);
  if (image.spacing) {
    const unit = product(image.spacing);
    column(ndim === 2 ? "area_um2" : "volume_um3").forEach((_, i, all) => (all[i] = pixels[i]! * unit));
    column("diameter_um").forEach((_, i, all) => (all[i] = diameter[i]! * unit ** (1 / ndim)));
  }
  return { count, columns };
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
