/** A model's card: what it takes and what it learnt, as `cleft export` writes it into the ONNX file. */

import { UserError } from "./errors";

export interface Card {
  format: number;
  cleft: string;
  net: { channels: number; n_classes: number; width: number; strides: number[][]; size_head: boolean };
  axes: "YX" | "ZYX";
  spacing_um: number[] | null;
  shrink: number[];
  percentiles: [number, number];
  noise_floor: number;
  cell_diameter: number;
  default_diameter: string | null;
  min_size: number;
  min_size_at_border: number;
}

const FORMAT = 1;

function isNumbers(found: unknown, length?: number): found is number[] {
  return (
    Array.isArray(found) &&
    found.every((x) => typeof x === "number" && Number.isFinite(x)) &&
    (length === undefined || found.length === length)
  );
}

/** The card in a text, checked as far as it is used. */
export function readCard(text: string, source: string): Card {
  let card: Card;
  try {
    card = JSON.parse(text) as Card;
  } catch {
    throw new UserError(`${source}: its card is damaged; expected what cleft export --to onnx writes.`);
  }
  const ndim = { YX: 2, ZYX: 3 }[card.axes] ?? 0;
  const known =
    ndim > 0 &&
    card.format === FORMAT &&
    Array.isArray(card.net?.strides) &&
    card.net.strides.every((s) => isNumbers(s, ndim) && s.every((n) => n === 1 || n === 2)) &&
    [3, 4].includes(card.net.n_classes) &&
    isNumbers(card.percentiles, 2) &&
    isNumbers(card.shrink, ndim) &&
    (card.spacing_um === null || isNumbers(card.spacing_um, ndim)) &&
    isNumbers([card.noise_floor, card.cell_diameter, card.min_size, card.min_size_at_border]);
  if (!known) throw new UserError(`${source}: its card is not understood; this page reads models of format ${FORMAT}.`);
  if (card.net.channels !== 1) {
    throw new UserError(`${source}: is a model for ${card.net.channels} channels; this page takes one channel.`);
  }
  return card;
}

/** The multiple of pixels that each axis of the network's input must be. */
export function netStride(card: Card): number[] {
  return card.shrink.map((shrink, axis) => shrink * card.net.strides.reduce((n, s) => n * s[axis]!, 1));
}

/** How far along each axis a pixel can act, rounded up to the stride: `receptive_field_radius` in Python. */
export function fieldRadius(card: Card): number[] {
  return card.shrink.map((shrink, axis) => {
    const scales = [1];
    for (const s of card.net.strides) scales.push(scales.at(-1)! * s[axis]!);
    const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
    const coarsest = scales.at(-1)!;
    const down = 2 + sum(scales.slice(0, -1)) + sum(scales.slice(1));
    const radius = down + 2 * sum(scales.slice(0, -1)) + coarsest - 1;
    // where the network itself averages blocks and interpolates, a block further is seen
    return Math.ceil(radius / coarsest) * coarsest * shrink + (shrink > 1 ? coarsest * shrink : 0);
  });
}
