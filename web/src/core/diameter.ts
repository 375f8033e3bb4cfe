/** How large the cells of an image are: a quick look at several scales, as in `cleft.prediction.diameter`. */

import { type Image, type Region, round } from "./arrays";
import { agreements, ratiosWithin, shownPart } from "./agreement";
import { netStride } from "./card";
import type { Limits } from "./intensity";
import { type Network, type Progress, padToMultiple } from "./predictor";
import { MAX_RATIO, MIN_RATIO, factorsFor } from "./scale";

const LOG2_SIZES = octaves(-12, 12, 4); // that a size head tells apart
const RATIOS = octaves(-4, 9, 2).map((x) => 2 ** x); // of the diameter that the model learnt
const MIN_CELLS_ACROSS = 2; // cells that must have room across an image
const VIEW_EDGE: Record<number, number> = { 2: 224, 3: 48 }; // pixels of the network along each axis of a view
const MIN_VIEW = 0.22; // of that: in less of an image, shown smaller still, there is nothing to see
// octaves of scale, and how many parts at each
const VIEWS = [[-1, 2], [0, 3], [1, 2], [2, 1], [3, 1], [4, 1], [5, 1]] as const;
const LOG2_DIAMETERS = octaves(-40, 80, 16); // looked for, in octaves from the one learnt
const DOUBT = 0.01; // the chance of what a view holds impossible
const NEAR = 2; // octaves from the size that a view shows best at which it counts .6
const ENOUGH_CELLS = 0.02; // of a view's places, with which it counts half as much as at most
const SURE = 0.985; // that there is a cell, where the view that shows the size best is surest
const MIN_AGREEMENT = 0.1; // less from one scale to the next is noise
const NEARBY = octaves(-2, 4, 2).map((x) => 2 ** x); // of the diameter told, where the model is asked again
const CLOSE = 1.5; // times the diameter told, within which cells are found at it, too
const AGREES = 0.2; // with which no other is looked at
const FAR_BETTER = 1.4;
const BETTER_BY = 0.08; // and by this much more, does the model agree with itself where it isn't so

function octaves(first: number, last: number, per: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) / per);
}

/** The diameter in pixels to give, or null where the model finds no cell. */
export async function estimateDiameter(
  network: Network,
  image: Image,
  limits: Limits,
  progress: Progress,
): Promise<number | null> {
  const { card } = network;
  const looks = VIEWS.reduce((n, [, count]) => n + count, 0) + NEARBY.length;
  let looked = 0;
  const look = (): void => progress(Math.min(++looked, looks - 1), looks);
  if (network.sizes) {
    const told = await bySizeHead(network, image, limits, look);
    return told === null ? null : confirmed(network, image, limits, told, look);
  }
  const agreed = await agreements(network, image, limits, ratiosWithin(card, image.shape, RATIOS), look);
  return Math.max(...agreed) < MIN_AGREEMENT ? null : peakRatio(agreed) * card.cell_diameter;
}

/** The diameter on which the views agree best, each by how much of it is cells. */
async function bySizeHead(network: Network, image: Image, limits: Limits, look: () => void): Promise<number | null> {
  const { card } = network;
  const ndim = image.shape.length;
  const largest = Math.max(...image.shape) / MIN_CELLS_ACROSS;
  const wanted = LOG2_DIAMETERS.filter((x) => 2 ** x * card.cell_diameter <= largest);
  const [evidence, weight] = [wanted.map(() => 0), wanted.map(() => 1e-12)];
  const surest = new Map<number, number>();
  for (const [octave, count] of VIEWS) {
    const factors = factorsFor(card, 2 ** octave * card.cell_diameter, image.spacing);
    const edges = image.shape.map((n, a) => n / factors[a]!);
    if (octave > 0 && Math.min(...edges) < MIN_VIEW * VIEW_EDGE[ndim]!) break;
    const extent = image.shape.map((n, a) => Math.min(n, round(VIEW_EDGE[ndim]! * factors[a]!)));
    const found: Float32Array[] = [];
    for (const part of spots(image.shape, extent, count)) {
      const [pixels, shape] = shownPart(image, limits, part, factors);
      found.push(await network.sizes!(...padToMultiple(pixels, shape, netStride(card))));
      look();
    }
    const { likely, sure, share } = summed(found);
    surest.set(octave, sure);
    wanted.forEach((x, i) => {
      const told = interpolatedAt(x - octave, likely);
      const counts = (share / (share + ENOUGH_CELLS)) * Math.exp(-0.5 * ((x - octave) / NEAR) ** 2);
      evidence[i]! += counts * Math.log(told + DOUBT);
      weight[i]! += counts;
    });
  }
  if (!wanted.length) return null;
  const scores = evidence.map((e, i) => e / weight[i]!);
  const best = wanted[scores.indexOf(Math.max(...scores))]!;
  const nearest = [...surest.keys()].reduce((a, b) => (Math.abs(b - best) < Math.abs(a - best) ? b : a));
  return surest.get(nearest)! >= SURE ? 2 ** best * card.cell_diameter : null;
}

/** How likely each size is in a view, how sure its surest place is of a cell, and the share of cells. */
function summed(found: Float32Array[]): { likely: number[]; sure: number; share: number } {
  const kinds = LOG2_SIZES.length + 1;
  const likely = LOG2_SIZES.map(() => 0);
  let [sure, squares, places] = [0, 0, 0];
  for (const part of found) {
    const n = part.length / kinds;
    places += n;
    for (let i = 0; i < n; i++) {
      const cell = 1 - part[(kinds - 1) * n + i]!;
      sure = Math.max(sure, cell);
      squares += cell ** 2;
      // the sure places tell more: of cells squared, one factor lies in what they say of sizes
      likely.forEach((_, k) => (likely[k]! += part[k * n + i]! * cell));
    }
  }
  return { likely: likely.map((x) => x / Math.max(squares, 1e-9)), sure, share: squares / places };
}

/** What is told of a size between those that are told apart; 0 beyond them. */
function interpolatedAt(x: number, likely: number[]): number {
  const place = (x - LOG2_SIZES[0]!) * 4;
  if (place < 0 || place > likely.length - 1) return 0;
  const low = Math.min(Math.floor(place), likely.length - 2);
  return likely[low]! + (likely[low + 1]! - likely[low]!) * (place - low);
}

/** The diameter told, or another near it at which the model agrees far better with itself. */
async function confirmed(
  network: Network,
  image: Image,
  limits: Limits,
  told: number,
  look: () => void,
): Promise<number> {
  const learnt = network.card.cell_diameter;
  const known = NEARBY.map((near) => (told / learnt) * near).filter((r) => MIN_RATIO <= r && r <= MAX_RATIO);
  const close = known.filter((r) => 1 / CLOSE <= (r * learnt) / told && (r * learnt) / told <= CLOSE);
  const here = Math.max(0, ...(await agreements(network, image, limits, close, look)));
  if (here >= AGREES || known.length < 2) return told;
  const agreed = await agreements(network, image, limits, known, look);
  const best = agreed.indexOf(Math.max(...agreed));
  if (agreed[best]! < Math.max(FAR_BETTER * here, here + BETTER_BY)) return told;
  return Math.sqrt(known[best]! * known[best + 1]!) * learnt;
}

/** So many parts of an image, each in another row and column; one where it is hardly larger. */
function spots(shape: readonly number[], extent: readonly number[], count: number): Region[] {
  const parts = shape.every((n, a) => n < 1.5 * extent[a]!) ? 1 : count;
  return Array.from({ length: parts }, (_, i) =>
    shape.map((n, axis) => {
      const row = axis % 2 === 0 ? i : (2 * i) % parts;
      const start = round(((n - extent[axis]!) * (row + 0.5)) / parts);
      return [start, start + extent[axis]!] as const;
    }),
  );
}

/** The ratio at which neighbours agree best, evened out and interpolated. */
function peakRatio(agreed: number[]): number {
  const middles = agreed.map((_, i) => (Math.log(RATIOS[i]!) + Math.log(RATIOS[i + 1]!)) / 2);
  const at = (i: number): number => agreed[Math.min(Math.max(i, 0), agreed.length - 1)]!;
  const even = agreed.map((x, i) => 0.25 * at(i - 1) + 0.5 * x + 0.25 * at(i + 1));
  const top = Math.min(Math.max(even.indexOf(Math.max(...even)), 1), even.length - 2);
  const [before, here, after] = [even[top - 1]!, even[top]!, even[top + 1]!];
  const [bend, slope] = [(before + after) / 2 - here, (after - before) / 2];
  const shift = bend < 0 ? Math.min(Math.max(-slope / (2 * bend), -1), 1) : 0;
  const place = top + shift;
  const low = Math.min(Math.floor(place), middles.length - 2);
  return Math.exp(middles[low]! + (middles[low + 1]! - middles[low]!) * (place - low));
}
