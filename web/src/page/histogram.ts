/** How many cells there are of each size, on a logarithmic scale, those dropped paler. */

const BINS = 24;

/** Draw the sizes of cells (0 of background first) and return what the picture says, in words. */
export function drawHistogram(canvas: HTMLCanvasElement, sizes: Float64Array, kept: Uint8Array): string {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, canvas.clientWidth * ratio);
  canvas.height = Math.max(1, canvas.clientHeight * ratio);
  const context = canvas.getContext("2d")!;
  const cells = [...sizes.slice(1)].filter((n) => n > 0);
  if (!cells.length) return "";
  const [low, high] = [cells.reduce((a, b) => Math.min(a, b)), cells.reduce((a, b) => Math.max(a, b))];
  const binOf = (n: number): number =>
    high > low ? Math.min(BINS - 1, Math.floor((BINS * Math.log(n / low)) / Math.log(high / low))) : BINS >> 1;
  const [all, stay] = [new Array<number>(BINS).fill(0), new Array<number>(BINS).fill(0)];
  for (let label = 1; label < sizes.length; label++) {
    if (sizes[label]! <= 0) continue;
    all[binOf(sizes[label]!)]!++;
    if (kept[label]) stay[binOf(sizes[label]!)]!++;
  }
  const most = Math.max(...all);
  const width = canvas.width / BINS;
  const style = getComputedStyle(canvas);
  const bar = (count: number, i: number): void => {
    const height = (count / most) * (canvas.height - 2);
    context.fillRect(i * width + 1, canvas.height - height, width - 2, height);
  };
  context.fillStyle = style.getPropertyValue("--line");
  all.forEach(bar);
  context.fillStyle = style.getPropertyValue("--accent");
  stay.forEach(bar);
  const middle = [...cells].sort((a, b) => a - b)[cells.length >> 1]!;
  const said = (n: number): string => n.toLocaleString("en-GB");
  return `Cells of ${said(low)} to ${said(high)} pixels, half of them below ${said(middle)}.`;
}
