/** The picture: image and cells on a canvas, moved and zoomed; computed for the pixels of the screen alone. */

import type { Image } from "../core/arrays";
import { clamp } from "../core/arrays";
import { percentileOf } from "../core/intensity";

export type Show = "outlines" | "fill" | "p0" | "p1" | "p2";

/** What there is of the cells. */
export interface Cells {
  labels: Uint32Array;
  probabilities: Uint8Array | null;
  kept: Uint8Array;
}

const SAMPLE = 50_000; // pixels that contrast is chosen from
const ZOOM = 1.25; // by one press or turn
const MAX_ZOOM = 64; // pixels of the screen for one of the image
const HIGHLIGHT = [255, 255, 255] as const;
const BACKDROP = [16, 22, 24] as const;

/** A colour for each label: hues far apart for numbers that are near. */
function colourOf(label: number): readonly [number, number, number] {
  const hue = (label * 0.618034) % 1;
  const channel = (shift: number): number => {
    const k = (hue * 6 + shift) % 6;
    return Math.round(255 * (1 - 0.75 * clamp(Math.min(k, 4 - k), 0, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

export class View {
  image: Image | null = null;
  cells: Cells | null = null;
  show: Show = "outlines";
  /** The share of the picture's width, from the left, that shows the image alone. */
  wipe = 0.5;
  plane = 0;
  picked = 0;
  line: [number, number, number, number] | null = null;
  black = 0.5;
  white = 99.8; // percentiles
  private sorted: Float64Array = new Float64Array();
  private zoom = 1;
  private centre: [number, number] = [0, 0];
  private asked = false;
  private colours = new Uint8Array(0);
  private readonly context: CanvasRenderingContext2D;

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d", { alpha: false })!;
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  get width(): number {
    return this.image?.shape.at(-1) ?? 1;
  }

  get height(): number {
    return this.image?.shape.at(-2) ?? 1;
  }

  /** Another image, without cells, all of it seen. */
  open(image: Image): void {
    this.image = image;
    this.cells = null;
    this.picked = 0;
    this.line = null;
    this.plane = image.shape.length === 3 ? image.shape[0]! >> 1 : 0;
    const step = Math.max(1, Math.floor(image.data.length / SAMPLE));
    this.sorted = Float64Array.from({ length: Math.ceil(image.data.length / step) }, (_, i) => image.data[i * step]!).sort();
    this.fit();
  }

  setCells(cells: Cells | null): void {
    this.cells = cells;
    this.picked = 0;
    const count = cells ? cells.kept.length : 0;
    this.colours = new Uint8Array(3 * count);
    for (let label = 1; label < count; label++) this.colours.set(colourOf(label), 3 * label);
    this.redraw();
  }

  fit(): void {
    this.zoom = Math.min(this.canvas.width / this.width, this.canvas.height / this.height) || 1;
    this.centre = [this.width / 2, this.height / 2];
    this.redraw();
  }

  /** Zoom by a factor, a place of the canvas staying where it is. */
  zoomBy(factor: number, at: [number, number] = [this.canvas.width / 2, this.canvas.height / 2]): void {
    const [x, y] = this.toImage(...at);
    const least = Math.min(1, this.canvas.width / this.width, this.canvas.height / this.height) / 2;
    this.zoom = clamp(this.zoom * factor, least, MAX_ZOOM);
    this.centre[0] = x - (at[0] - this.canvas.width / 2) / this.zoom;
    this.centre[1] = y - (at[1] - this.canvas.height / 2) / this.zoom;
    this.moveBy(0, 0);
  }

  /** Move the picture by pixels of the canvas. */
  moveBy(dx: number, dy: number): void {
    this.centre[0] = clamp(this.centre[0] - dx / this.zoom, 0, this.width);
    this.centre[1] = clamp(this.centre[1] - dy / this.zoom, 0, this.height);
    this.redraw();
  }

  /** Bring a place of the image to the middle, unless it is seen already. */
  lookAt(x: number, y: number): void {
    const [left, top] = this.toImage(0, 0);
    const [right, bottom] = this.toImage(this.canvas.width, this.canvas.height);
    if (x < left || x > right || y < top || y > bottom) this.centre = [x, y];
    this.redraw();
  }

  toImage(x: number, y: number): [number, number] {
    return [
      this.centre[0] + (x - this.canvas.width / 2) / this.zoom,
      this.centre[1] + (y - this.canvas.height / 2) / this.zoom,
    ];
  }

  private toCanvas(x: number, y: number): [number, number] {
    return [
      (x - this.centre[0]) * this.zoom + this.canvas.width / 2,
      (y - this.centre[1]) * this.zoom + this.canvas.height / 2,
    ];
  }

  /** Where in the arrays a place of the image is; -1 outside. */
  indexAt(x: number, y: number): number {
    const [px, py] = [Math.floor(x), Math.floor(y)];
    if (px < 0 || py < 0 || px >= this.width || py >= this.height) return -1;
    return (this.plane * this.height + py) * this.width + px;
  }

  key(key: string): boolean {
    const step = 60;
    if (key === "ArrowLeft") this.moveBy(step, 0);
    else if (key === "ArrowRight") this.moveBy(-step, 0);
    else if (key === "ArrowUp") this.moveBy(0, step);
    else if (key === "ArrowDown") this.moveBy(0, -step);
    else if (key === "+" || key === "=") this.zoomBy(ZOOM);
    else if (key === "-") this.zoomBy(1 / ZOOM);
    else if (key === "0") this.fit();
    else return false;
    return true;
  }

  redraw(): void {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  private resized(): void {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [this.canvas.clientWidth, this.canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (w === this.canvas.width && h === this.canvas.height) return;
    const all = this.zoom <= 1.001 * Math.min(this.canvas.width / this.width, this.canvas.height / this.height);
    [this.canvas.width, this.canvas.height] = [w!, h!];
    if (all) this.fit();
    else this.redraw();
  }

  private draw(): void {
    const { width, height } = this.canvas;
    if (!this.image) return;
    const pixels = this.context.createImageData(width, height);
    const [low, high] = [percentileOf(this.sorted, this.black), percentileOf(this.sorted, this.white)];
    const scale = high > low ? 255 / (high - low) : 0;
    const columns = Int32Array.from({ length: width }, (_, x) => {
      const place = Math.floor(this.toImage(x + 0.5, 0)[0]);
      return place >= 0 && place < this.width ? place : -1;
    });
    const edge = Math.round(this.wipe * width);
    for (let y = 0; y < height; y++) this.drawRow(y, pixels.data, columns, low, scale, edge);
    this.context.putImageData(pixels, 0, 0);
    if (this.cells && this.wipe > 0 && this.wipe < 1) this.drawDivider(edge);
    if (this.line) this.drawLine(this.line);
  }

  private drawRow(
    y: number,
    out: Uint8ClampedArray,
    columns: Int32Array,
    low: number,
    scale: number,
    edge: number,
  ): void {
    const { data } = this.image!;
    const { cells, canvas } = this;
    const rowAt = (row: number): number => {
      const place = Math.floor(this.toImage(0, row + 0.5)[1]);
      return place >= 0 && place < this.height ? (this.plane * this.height + place) * this.width : -1;
    };
    const [above, here, below] = [rowAt(y - 1), rowAt(y), rowAt(y + 1)];
    for (let x = 0; x < canvas.width; x++) {
      const column = columns[x]!;
      const o = 4 * (y * canvas.width + x);
      out[o + 3] = 255;
      if (here < 0 || column < 0) {
        [out[o], out[o + 1], out[o + 2]] = BACKDROP;
        continue;
      }
      const grey = (data[here + column]! - low) * scale;
      out[o] = out[o + 1] = out[o + 2] = grey;
      if (!cells || x < edge) continue;
      if (this.show === "outlines" || this.show === "fill") {
        const label = this.labelAt(here, column);
        const left = this.labelAt(here, columns[x - 1] ?? -1);
        const right = this.labelAt(here, columns[x + 1] ?? -1);
        const isEdge = label !== left || label !== right || label !== this.labelAt(above, column) || label !== this.labelAt(below, column);
        if (label) this.paint(out, o, label, isEdge);
      } else if (cells.probabilities) {
        const k = Number(this.show[1]);
        const likely = cells.probabilities[k * data.length + here + column]!;
        [out[o], out[o + 1], out[o + 2]] = [likely * 0.97, likely * 0.75 + 12, 60 + likely * 0.35];
      }
    }
  }

  private labelAt(row: number, column: number): number {
    if (row < 0 || column < 0) return 0;
    const label = this.cells!.labels[row + column]!;
    return this.cells!.kept[label] ? label : 0;
  }

  private paint(out: Uint8ClampedArray, o: number, label: number, isEdge: boolean): void {
    const picked = label === this.picked;
    const share = isEdge ? 1 : this.show === "fill" || picked ? 0.5 : 0;
    for (let c = 0; c < 3; c++) {
      const colour = picked ? HIGHLIGHT[c]! : this.colours[3 * label + c]!;
      out[o + c] = out[o + c]! * (1 - share) + colour * share;
    }
  }

  private drawDivider(x: number): void {
    this.context.fillStyle = "#ffffffc0";
    this.context.fillRect(x - 1, 0, 2, this.canvas.height);
  }

  private drawLine([x1, y1, x2, y2]: [number, number, number, number]): void {
    const { context } = this;
    for (const [colour, width] of [["#000000", 5], ["#ffd166", 2.5]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...this.toCanvas(x1, y1));
      context.lineTo(...this.toCanvas(x2, y2));
      context.stroke();
    }
  }
}
