/** Outlines for other programs: GeoJSON as QuPath reads it, and a zip of ImageJ's ROIs. */

import { zipSync } from "fflate";

import type { Table } from "../core/measure";
import { type Polygon, type Ring, outlinesOf } from "../core/outlines";

const MAX_CORNERS = 65535;
const MAX_EDGE = 32767; // pixels that a ROI's numbers reach

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

/** A zip of polygons, one for each outer outline: ROIs have no holes. Null where the image is too large for them. */
export function toRoiZip(labels: Planes): Uint8Array<ArrayBuffer> | null {
  if (Math.max(...labels.shape.slice(-2)) > MAX_EDGE) return null;
  const files: Record<string, Uint8Array> = {};
  const stack = labels.shape.length === 3;
  forPlanes(labels, (z, found) => {
    for (const [label, polygons] of found) {
      polygons.forEach(([outer], part) => {
        const plane = stack ? `z${String(z + 1).padStart(4, "0")}-` : "";
        const name = `${plane}${String(label).padStart(5, "0")}${part ? `-${part + 1}` : ""}.roi`;
        if (outer!.length / 2 <= MAX_CORNERS) files[name] = roi(outer!, stack ? z + 1 : 0);
      });
    }
  });
  return zipSync(files, { level: 6 }) as Uint8Array<ArrayBuffer>;
}

/** A polygon as ImageJ writes it. Source: ImageJ's RoiDecoder. */
function roi(ring: Ring, position: number): Uint8Array {
  const n = ring.length / 2;
  const view = new DataView(new ArrayBuffer(64 + 4 * n));
  const [xs, ys] = [ring.filter((_, i) => i % 2 === 0), ring.filter((_, i) => i % 2 === 1)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  [0x49, 0x6f, 0x75, 0x74].forEach((byte, i) => view.setUint8(i, byte)); // "Iout"
  view.setInt16(4, 227); // the version
  [top, left, Math.max(...ys), Math.max(...xs)].forEach((edge, i) => view.setInt16(8 + 2 * i, edge));
  view.setUint16(16, n);
  view.setInt32(56, position);
  xs.forEach((x, i) => view.setInt16(64 + 2 * i, x - left));
  ys.forEach((y, i) => view.setInt16(64 + 2 * (n + i), y - top));
  return new Uint8Array(view.buffer);
}
