/** Steps from a pixel to its neighbours, in arrays with a border of one pixel. */

import { product, strides } from "./arrays";

/** The 3^d - 1 steps to the neighbours of a pixel, diagonal ones too, in raster order. */
export function neighbourSteps(ndim: number): number[][] {
  let steps: number[][] = [[]];
  for (let axis = 0; axis < ndim; axis++) steps = steps.flatMap((s) => [-1, 0, 1].map((n) => [...s, n]));
  return steps.filter((s) => s.some((n) => n !== 0));
}

/** An array with a border of one pixel around it. */
export class Padded {
  readonly shape: number[];
  readonly strides: number[];
  readonly size: number;

  constructor(readonly inner: readonly number[]) {
    this.shape = inner.map((n) => n + 2);
    this.strides = strides(this.shape);
    this.size = product(this.shape);
  }

  /** Call with each row of the array within: where it begins there and here. */
  forRows(visit: (inner: number, padded: number) => void): void {
    const length = this.inner.at(-1)!;
    const outer = this.inner.slice(0, -1);
    const at = outer.map(() => 0);
    for (let row = 0; row < product(outer); row++) {
      let place = this.strides.at(-1)!;
      at.forEach((n, axis) => (place += (n + 1) * this.strides[axis]!));
      visit(row * length, place);
      for (let axis = outer.length - 1; axis >= 0 && ++at[axis]! === outer[axis]; axis--) at[axis] = 0;
    }
  }

  offset(step: readonly number[]): number {
    return step.reduce((sum, n, axis) => sum + n * this.strides[axis]!, 0);
  }
}
