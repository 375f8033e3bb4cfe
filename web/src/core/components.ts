/** Connected parts of a mask, diagonal neighbours too, numbered in raster order: `cleft.labels.instances.components`. */

import type { Numbers } from "./arrays";
import { Padded, neighbourSteps } from "./neighbours";

/** Labels 1, 2, ... of the connected pixels of one class, and how many there are. */
export function components(classes: Numbers, shape: readonly number[], of: number): { labels: Uint32Array; count: number } {
  const padded = new Padded(shape);
  const marks = new Uint32Array(padded.size);
  // those that raster order has been to already
  const before = neighbourSteps(shape.length).map((s) => padded.offset(s)).filter((offset) => offset < 0);
  let parents = new Uint32Array(1024);
  let count = 0;
  const root = (mark: number): number => {
    while (parents[mark] !== mark) mark = parents[mark] = parents[parents[mark]!]!;
    return mark;
  };
  const length = shape.at(-1)!;
  padded.forRows((inner, place) => {
    for (let x = 0; x < length; x++) {
      if (classes[inner + x] !== of) continue;
      let mark = 0;
      for (const offset of before) {
        const other = marks[place + x + offset]!;
        if (other === 0 || other === mark) continue;
        if (mark === 0) mark = other;
        else {
          const [a, b] = [root(mark), root(other)];
          parents[Math.max(a, b)] = mark = Math.min(a, b);
        }
      }
      if (mark === 0) {
        mark = ++count;
        if (count === parents.length) {
          const larger = new Uint32Array(2 * count);
          larger.set(parents);
          parents = larger;
        }
        parents[mark] = mark;
      }
      marks[place + x] = mark;
    }
  });
  // a root is the first mark of its part, so roots in their order are parts in raster order
  const numbers = new Uint32Array(count + 1);
  let parts = 0;
  for (let mark = 1; mark <= count; mark++) numbers[mark] = parents[mark] === mark ? ++parts : numbers[root(mark)]!;
  const labels = new Uint32Array(classes.length);
  padded.forRows((inner, place) => {
    for (let x = 0; x < length; x++) labels[inner + x] = numbers[marks[place + x]!]!;
  });
  return { labels, count: parts };
}
