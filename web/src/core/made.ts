/** Made images of crowded cells, to try with where no image is at hand. */

import { type Image, product } from "./arrays";

const EDGE = 384; // pixels of a plane
const STACK = [24, 128, 128]; // pixels of a stack
const BACKGROUND = 120;
const PHOTONS = 900; // at the middle of a bright cell

/** Numbers from 0 to 1, the same for the same seed. Source: mulberry32, in the public domain. */
export function randomOf(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An image of 16 bits: ellipses that touch, blurred edges, uneven light and the noise of a camera. */
export function madeImage(stack: boolean, seed: number): Image {
  const shape = stack ? [...STACK] : [EDGE, EDGE];
  const random = randomOf(seed);
  const radius = stack ? 7.5 : 13;
  const light = new Float32Array(product(shape));
  const places: number[][] = [];
  for (let tries = 0; tries < 20_000; tries++) {
    const place = shape.map((n) => random() * n);
    const apart = (other: number[]): number => Math.hypot(...place.map((p, a) => p - other[a]!));
    const alone = shape.some((n, a) => Math.abs(place[a]! - n * 0.2) < n * 0.07); // a lane that is nearly empty
    if (places.every((p) => apart(p) > radius * (alone ? 5 : 1.75))) places.push(place);
  }
  for (const place of places) addCell(light, shape, place, radius, random);
  const data = new Uint16Array(light.length);
  const width = shape.at(-1)!;
  for (let i = 0; i < data.length; i++) {
    const shade = 0.75 + (0.5 * (i % width)) / width;
    const expected = BACKGROUND + PHOTONS * shade * light[i]!;
    // the sum of uniform numbers is near to normal
    const normal = random() + random() + random() + random() - 2;
    data[i] = Math.max(0, Math.round(expected + 1.7 * normal * Math.sqrt(expected)));
  }
  return { data, shape, spacing: shape.map(() => 0.35) };
}

/** One ellipse with grains in it. */
function addCell(light: Float32Array, shape: number[], place: number[], radius: number, random: () => number): void {
  const ndim = shape.length;
  const angle = random() * Math.PI;
  const long = radius * (0.95 + 0.3 * random());
  const short = radius * (0.75 + 0.2 * random());
  const bright = 0.45 + 0.55 * random();
  const phase = random() * 6;
  const reach = Math.ceil(long + 4);
  const from = place.map((p) => Math.max(0, Math.floor(p) - reach));
  const to = shape.map((n, a) => Math.min(n, Math.floor(place[a]!) + reach + 1));
  const [height, width] = shape.slice(-2) as [number, number];
  for (let z = ndim === 3 ? from[0]! : 0; z < (ndim === 3 ? to[0]! : 1); z++) {
    const dz = ndim === 3 ? (z - place[0]!) / radius : 0;
    for (let y = from.at(-2)!; y < to.at(-2)!; y++) {
      for (let x = from.at(-1)!; x < to.at(-1)!; x++) {
        const [dx, dy] = [x - place.at(-1)!, y - place.at(-2)!];
        const u = (dx * Math.cos(angle) + dy * Math.sin(angle)) / long;
        const v = (dy * Math.cos(angle) - dx * Math.sin(angle)) / short;
        const depth = (1 - Math.hypot(u, v, dz)) * short; // pixels within the edge
        if (depth < -4) continue;
        const grain = 0.85 + 0.15 * Math.sin(0.5 * x + 0.2 * y + phase) * Math.cos(0.45 * y - 0.15 * x - phase + 0.6 * z);
        const i = (z * height + y) * width + x;
        light[i] = Math.max(light[i]!, (bright * grain) / (1 + Math.exp(-1.6 * depth)));
      }
    }
  }
}
