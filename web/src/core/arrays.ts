/** Arrays of any number of axes: flat numbers with a shape, regions of them, and arithmetic that rounds as Python's. */

export type Numbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** From (included) to (excluded) along one axis. */
export type Range = readonly [number, number];
export type Region = readonly Range[];

/** An image of one channel in the order Z, Y, X, or Y, X. */
export interface Image {
  data: Numbers;
  shape: number[];
  /** Micrometres per pixel along each axis, where they are known. */
  spacing: number[] | null;
}

export function product(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a * b, 1);
}

export function sizes(region: Region): number[] {
  return region.map(([a, b]) => b - a);
}

export function whole(shape: readonly number[]): Region {
  return shape.map((n) => [0, n] as const);
}

/** Items from one index to the next along each axis. */
export function strides(shape: readonly number[]): number[] {
  const found = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    found[axis] = step;
    step *= shape[axis]!;
  }
  return found;
}

/** To the nearest whole number, of two equally near the even one, as Python rounds. */
export function round(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest === 0.5) return low % 2 === 0 ? low : low + 1;
  return rest < 0.5 ? low : low + 1;
}

export function clamp(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/** Every row of a region (along its last axis): where it begins in an array of this shape. */
export function* rows(shape: readonly number[], region: Region): Generator<number> {
  const step = strides(shape);
  const at = region.map(([a]) => a);
  if (sizes(region).includes(0)) return;
  for (;;) {
    let place = 0;
    for (let axis = 0; axis < at.length; axis++) place += at[axis]! * step[axis]!;
    yield place;
    let axis = at.length - 2;
    while (axis >= 0 && ++at[axis]! === region[axis]![1]) {
      at[axis] = region[axis]![0];
      axis--;
    }
    if (axis < 0) return;
  }
}

/** Copy a region of one array to a region of the same extent of another. */
export function copyRegion(
  source: Numbers,
  sourceShape: readonly number[],
  from: Region,
  target: Numbers,
  targetShape: readonly number[],
  to: Region,
): void {
  const length = from.at(-1)![1] - from.at(-1)![0];
  const places = rows(targetShape, to);
  for (const a of rows(sourceShape, from)) {
    target.set(source.subarray(a, a + length), places.next().value as number);
  }
}
