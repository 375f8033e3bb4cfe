/** Outlines of cells along the edges of their pixels: no pixel is cut, and filling an outline gives the cell again. */

/** Corners x0, y0, x1, y1, ... of a closed line, the cell on its right. */
export type Ring = number[];

/** An outer ring, and those of the holes in it. */
export type Polygon = Ring[];

const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]] as const; // east, south, west, north

/** The polygons of each label of a plane; pixels that touch at a corner alone are polygons of their own. */
export function outlinesOf(labels: Uint32Array, width: number, height: number): Map<number, Polygon[]> {
  const walked = new Uint8Array(labels.length); // pixels whose upper edge is part of a ring already
  const rings = new Map<number, Ring[]>();
  const at = (x: number, y: number): number => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[y * width + x]!);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const label = labels[y * width + x]!;
      // every ring, of a hole too, runs east along some upper edge
      if (label === 0 || walked[y * width + x] || at(x, y - 1) === label) continue;
      const ring = traced(label, x, y, at, (px, py) => (walked[py * width + px] = 1));
      const known = rings.get(label);
      if (known) known.push(ring);
      else rings.set(label, [ring]);
    }
  }
  const inOrder = [...rings].sort(([a], [b]) => a - b);
  return new Map(inOrder.map(([label, found]) => [label, grouped(found)]));
}

function traced(
  label: number,
  startX: number,
  startY: number,
  at: (x: number, y: number) => number,
  walk: (x: number, y: number) => void,
): Ring {
  const ring: Ring = [startX, startY];
  let [x, y, direction] = [startX, startY, 0];
  for (;;) {
    if (direction === 0) walk(x, y);
    x += STEPS[direction]![0];
    y += STEPS[direction]![1];
    // the two pixels ahead, by direction: east, south, west, north
    const right = at(x - (direction === 1 || direction === 2 ? 1 : 0), y - (direction >= 2 ? 1 : 0));
    const left = at(x - (direction >= 2 ? 1 : 0), y - (direction === 0 || direction === 3 ? 1 : 0));
    const turn = right !== label ? 1 : left === label ? 3 : 0;
    const next = (direction + turn) % 4;
    if (x === startX && y === startY && next === 0) return ring;
    if (turn !== 0) ring.push(x, y);
    direction = next;
  }
}

/** Twice the area of a ring; below 0 for a hole. */
export function signedArea(ring: Ring): number {
  let sum = 0;
  for (let i = 0; i < ring.length; i += 2) {
    const j = (i + 2) % ring.length;
    sum += ring[i]! * ring[j + 1]! - ring[j]! * ring[i + 1]!;
  }
  return sum;
}

function grouped(rings: Ring[]): Polygon[] {
  const polygons = rings.filter((r) => signedArea(r) > 0).map((r): Polygon => [r]);
  for (const hole of rings.filter((r) => signedArea(r) < 0)) {
    const around = polygons.filter(([outer]) => holds(outer!, hole));
    // of several, one lies in a hole of another: the smallest is the nearest
    around.sort((a, b) => signedArea(a[0]!) - signedArea(b[0]!));
    around[0]!.push(hole);
  }
  return polygons;
}

/** Whether a ring holds another, which it doesn't cross. */
function holds(outer: Ring, inner: Ring): boolean {
  // just within the hole, above the edge where its ring begins, the upper edge of a pixel of the cell
  const [x, y] = [inner[0]! + 0.5, inner[1]! - 0.5];
  let inside = false;
  for (let i = 0; i < outer.length; i += 2) {
    const j = (i + 2) % outer.length;
    const [x1, y1, x2, y2] = [outer[i]!, outer[i + 1]!, outer[j]!, outer[j + 1]!];
    if (x1 === x2 && y1 > y !== y2 > y && x < x1) inside = !inside;
  }
  return inside;
}
