/** Labels grow over touching pixels, one step in every direction a round: `cleft.labels.grow`. */

import { Padded, neighbourSteps } from "./neighbours";

const FREE = 1;
const LABELLED = 2; // what a pixel is while labels grow, if anything

/**
 * Let labels grow, in place, over the pixels of one class. A pixel takes the label that reaches it in the fewest
 * steps; among several, the one whose nearest first pixel is closest, then the larger, then the lower label.
 */
export function grow(
  labels: Uint32Array,
  classes: Uint8Array,
  over: number,
  shape: readonly number[],
  spacing: readonly number[] | null,
  labelSizes: Float64Array,
): void {
  const along = shape.map((_, axis) => axis).filter((axis) => shape[axis]! > 1); // others lead nowhere
  if (!along.length) return;
  const padded = new Padded(along.map((axis) => shape[axis]!));
  const squares = along.map((axis) => (spacing === null ? 1 : spacing[axis]! ** 2));
  const [field, state, free] = framed(padded, labels, classes, over);
  const distanceOf = (step: number[]): number => step.reduce((sum, n, d) => sum + squares[d]! * n ** 2, 0);
  // the nearest neighbours first; sorting keeps the order of equals
  const steps = neighbourSteps(along.length).sort((a, b) => distanceOf(a) - distanceOf(b));
  const offsets = Int32Array.from(steps, (s) => padded.offset(s));
  const queue = new Uint32Array(free);
  const end = firstRound(queue, state, padded, offsets);
  spread({ field, state, queue, offsets, steps, squares, labelSizes }, end);
  const length = padded.inner.at(-1)!;
  padded.forRows((inner, place) => labels.set(field.subarray(place, place + length), inner));
}

/** Labels and what each pixel is, with a border; and how many are free. */
function framed(
  padded: Padded,
  labels: Uint32Array,
  classes: Uint8Array,
  over: number,
): [Uint32Array, Uint8Array, number] {
  const [field, state] = [new Uint32Array(padded.size), new Uint8Array(padded.size)];
  let free = 0;
  const length = padded.inner.at(-1)!;
  padded.forRows((inner, place) => {
    for (let x = 0; x < length; x++) {
      field[place + x] = labels[inner + x]!;
      if (labels[inner + x]) state[place + x] = LABELLED;
      else if (classes[inner + x] === over) {
        state[place + x] = FREE;
        free++;
      }
    }
  });
  return [field, state, free];
}

/** Queue the free pixels beside a label, and return how many they are. */
function firstRound(queue: Uint32Array, state: Uint8Array, padded: Padded, offsets: Int32Array): number {
  let end = 0;
  const length = padded.inner.at(-1)!;
  padded.forRows((_, place) => {
    for (let p = place; p < place + length; p++) {
      if (state[p] === FREE && offsets.some((offset) => state[p + offset] === LABELLED)) queue[end++] = p;
    }
  });
  for (let i = 0; i < end; i++) state[queue[i]!] = 0;
  return end;
}

interface Growth {
  field: Uint32Array;
  state: Uint8Array;
  queue: Uint32Array;
  offsets: Int32Array;
  steps: number[][];
  squares: number[];
  labelSizes: Float64Array;
}

/** Label the pixels in the queue, then those they reach, until nothing more is reached. */
function spread({ field, state, queue, offsets, steps, squares, labelSizes }: Growth, end: number): void {
  const ndim = squares.length;
  // the steps along each axis from a pixel to the first one of its label, for pixels that grew
  const ways = Array.from({ length: ndim }, () => new Int16Array(queue.length));
  const place = new Map<number, number>(); // where in the queue a pixel of an earlier round stands
  let start = 0;
  while (start < end) {
    const last = end;
    for (let i = start; i < last; i++) {
      const p = queue[i]!;
      let [best, nearest] = [-1, Infinity];
      for (let k = 0; k < offsets.length; k++) {
        const q = p + offsets[k]!;
        if (state[q] !== LABELLED) continue;
        const from = place.get(q);
        let distance = 0;
        for (let d = 0; d < ndim; d++) {
          distance += squares[d]! * (steps[k]![d]! + (from === undefined ? 0 : ways[d]![from]!)) ** 2;
        }
        if (distance < nearest) [best, nearest] = [k, distance];
        else if (distance === nearest) {
          const [label, other] = [field[p + offsets[best]!]!, field[q]!];
          const larger = labelSizes[other]! - labelSizes[label]!;
          if (larger > 0 || (larger === 0 && other < label)) best = k;
        }
      }
      const q = p + offsets[best]!;
      field[p] = field[q]!; // which no other of the round sees: p isn't labelled before its end
      const from = place.get(q);
      for (let d = 0; d < ndim; d++) ways[d]![i] = steps[best]![d]! + (from === undefined ? 0 : ways[d]![from]!);
      for (const offset of offsets) {
        if (state[p + offset] !== FREE) continue;
        state[p + offset] = 0;
        queue[end++] = p + offset;
      }
    }
    place.clear(); // only pixels of the round before are beside those of the next
    for (let i = start; i < last; i++) {
      state[queue[i]!] = LABELLED;
      place.set(queue[i]!, i);
    }
    start = last;
  }
}
