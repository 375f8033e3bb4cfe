/** Outlines for other programs: GeoJSON as QuPath reads it, and a zip of ImageJ's ROIs. */

import { zipSync } from "fflate";

import type { Table } from "../core/measure";
import { type Polygon, type Ring, outlinesOf } from "../core/outlines";

const MAX_CORNERS = 65535; // of a polygon; a composite may have more
const MAX_EDGE = 32767; // pixels that a ROI's numbers reach

const HEADER = 64; // bytes
const [TRACED, RECTANGLE] = [8, 1]; // kinds of region; a composite's is its bounding rectangle
const [MOVE, LINE, CLOSE] = [0, 1, 4]; // steps of a path

interface Planes {
  data: Uint32Array;
  shape: readonly number[];
}

/** Call with the outlines of each plane. */
function forPlanes({ data, shape }: Planes, visit: (z: number, found: Map<number, Polygon[]>) => void): void {
  const [height, width] = shape.slice(-2) as [number, number];
  const pixels = width * height;
  for (let z = 0; z * pixels < data.length; z++) {
    visit(z, outlinesOf(data.subarray(z * pixels, (z + 1) * pixels), width, height));
  }
}

/** A feature for each cell, in a stack for each plane of a cell; corners in pixels of the image. */
export function toGeoJson(labels: Planes, table: Table): string {
  const features: string[] = [];
  const stack = labels.shape.length === 3;
  forPlanes(labels, (z, found) => {
    for (const [label, polygons] of found) {
      const rings = polygons.map((polygon) => polygon.map(closed));
      const geometry = {
        ...(rings.length === 1 ? { type: "Polygon", coordinates: rings[0] } : { type: "MultiPolygon", coordinates: rings }),
        ...(stack ? { plane: { c: -1, z, t: 0 } } : {}),
      };
      const measurements = Object.fromEntries([...table.columns].map(([name, of]) => [name, Number(of[label]!.toPrecision(7))]));
      const properties = { objectType: "detection", name: String(label), measurements };
      features.push(JSON.stringify({ type: "Feature", geometry, properties }));
    }
  });
  return `{"type":"FeatureCollection","features":[\n${features.join(",\n")}\n]}\n`;
}

function closed(ring: Ring): number[][] {
  const corners: number[][] = [];
  for (let i = 0; i <= ring.length; i += 2) corners.push([ring[i % ring.length]!, ring[(i + 1) % ring.length]!]);
  return corners;
}

/** A zip of regions, one for each cell, in a stack for each plane of a cell. Null where the image is too large for them. */
export function toRoiZip(labels: Planes): Uint8Array<ArrayBuffer> | null {
  if (Math.max(...labels.shape.slice(-2)) > MAX_EDGE) return null;
  const files: Record<string, Uint8Array> = {};
  const stack = labels.shape.length === 3;
  forPlanes(labels, (z, found) => {
    for (const [label, polygons] of found) {
      const name = stack ? `${String(z + 1).padStart(4, "0")}-${label}` : String(label);
      files[`${name}.roi`] = roi(polygons.flat(), stack ? z + 1 : 0);
    }
  });
  return zipSync(files, { level: 6 }) as Uint8Array<ArrayBuffer>;
}

/** A region as ImageJ writes it: a polygon, or a composite where a cell has holes or pieces. Source: ImageJ's RoiDecoder. */
function roi(rings: Ring[], position: number): Uint8Array {
  const [only] = rings;
  const plain = rings.length === 1 && only!.length / 2 <= MAX_CORNERS;
  const corners = rings.flat();
  const [xs, ys] = [corners.filter((_, i) => i % 2 === 0), corners.filter((_, i) => i % 2 === 1)];
  const least = (all: number[]): number => all.reduce((a, b) => Math.min(a, b));
  const most = (all: number[]): number => all.reduce((a, b) => Math.max(a, b));
  const [left, top] = [least(xs), least(ys)];
  const path = plain ? [] : rings.flatMap(pathOf);
  const view = new DataView(new ArrayBuffer(HEADER + (plain ? 4 * xs.length : 4 * path.length)));
  [0x49, 0x6f, 0x75, 0x74].forEach((byte, i) => view.setUint8(i, byte)); // "Iout"
  view.setInt16(4, 227); // the version
  view.setUint8(6, plain ? TRACED : RECTANGLE);
  [top, left, most(ys), most(xs)].forEach((edge, i) => view.setInt16(8 + 2 * i, edge));
  view.setInt32(56, position);
  if (plain) {
    view.setUint16(16, xs.length);
    xs.forEach((x, i) => view.setInt16(HEADER + 2 * i, x - left));
    ys.forEach((y, i) => view.setInt16(HEADER + 2 * (xs.length + i), y - top));
  } else {
    view.setInt32(36, path.length);
    path.forEach((number, i) => view.setFloat32(HEADER + 4 * i, number));
  }
  return new Uint8Array(view.buffer);
}

/** A ring as the path of a composite: move to its first corner, draw lines to the others, close. */
function pathOf(ring: Ring): number[] {
  const path: number[] = [];
  for (let i = 0; i < ring.length; i += 2) path.push(i === 0 ? MOVE : LINE, ring[i]!, ring[i + 1]!);
  return [...path, CLOSE];
}
