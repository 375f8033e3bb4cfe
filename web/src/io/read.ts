/** Files to images: what kind a file is by its first bytes, and one channel of it as an image. */

import { type Image, type Numbers, product } from "../core/arrays";
import { UserError } from "../core/errors";
import { openJpeg } from "./jpeg";
import { type Header, type Opened, checkSize } from "./opened";
import { openPng } from "./png";
import { openTiff } from "./tiff";

const MAGIC: [number[], "tiff" | "png" | "jpeg"][] = [
  [[0x49, 0x49, 0x2a, 0x00], "tiff"], [[0x4d, 0x4d, 0x00, 0x2a], "tiff"],
  [[0x49, 0x49, 0x2b, 0x00], "tiff"], [[0x4d, 0x4d, 0x00, 0x2b], "tiff"], // of more than 4 GB
  [[0x89, 0x50, 0x4e, 0x47], "png"], [[0xff, 0xd8, 0xff], "jpeg"],
];

/** Which part of a file to take, and what its pages are where it doesn't say. */
export interface Choice {
  /** What pages are, of a file that doesn't name its axes. */
  pagesAre: "Z" | "C" | "T" | null;
  /** The channel, from 0; "mean" is the mean of all. */
  channel: number | "mean";
  time: number;
  /** One plane of a stack, or the whole stack. */
  plane: number | "all";
  /** Micrometres per pixel along Z, Y, X, where the file is silent or wrong. */
  spacing: Header["spacing"];
}

export async function openImage(file: Blob, name: string): Promise<Opened> {
  const first = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const kind = MAGIC.find(([bytes]) => bytes.every((byte, i) => first[i] === byte))?.[1];
  if (kind === "tiff") return openTiff(file, name);
  if (kind === undefined) {
    throw new UserError(`${name}: is no image that this page reads; expected TIFF, PNG or JPEG.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  return kind === "png" ? openPng(bytes, name) : openJpeg(bytes, name);
}

/** How many channels, times and planes there are, by what the file or the choice says of its pages. */
export function extents(header: Header, pagesAre: Choice["pagesAre"]): { T: number; C: number; Z: number } {
  const found = { T: 1, C: 1, Z: 1 };
  if (header.arrangement) {
    [...header.arrangement.axes].forEach((a, i) => (found[a as "T"] = header.arrangement!.sizes[i]!));
  } else if (pagesAre) found[pagesAre] = header.pages;
  found.C *= header.samples;
  return found;
}

export async function readImage(opened: Opened, choice: Choice): Promise<Image> {
  const { header } = opened;
  const { C, Z } = extents(header, choice.pagesAre);
  const planes = choice.plane === "all" ? Array.from({ length: Z }, (_, z) => z) : [choice.plane];
  const shape = planes.length > 1 ? [planes.length, header.height, header.width] : [header.height, header.width];
  checkSize(header.name, product(shape));
  const channels = choice.channel === "mean" ? Array.from({ length: C }, (_, c) => c) : [choice.channel];
  const stack: Numbers[] = [];
  for (const z of planes) {
    const read: Numbers[] = [];
    for (const c of channels) {
      const sample = c % header.samples;
      read.push(await opened.readPlane(pageOf(header, choice, { Z: z, C: Math.floor(c / header.samples) }), sample));
    }
    stack.push(read.length > 1 ? meanOf(read) : read[0]!);
  }
  const data = stack.length > 1 ? joined(stack) : stack[0]!;
  checkPixels(data, header.name);
  const axes = shape.length === 3 ? (["Z", "Y", "X"] as const) : (["Y", "X"] as const);
  const said = axes.map((axis) => choice.spacing[axis] ?? header.spacing[axis]);
  return { data, shape, spacing: said.every((s) => s !== undefined) ? said : null };
}

/** The page that holds a plane, by the order of axes. */
function pageOf(header: Header, choice: Choice, at: { Z: number; C: number }): number {
  const { axes, sizes } = header.arrangement ?? { axes: choice.pagesAre ?? "", sizes: [header.pages] };
  return [...axes].reduce((page, axis, i) => {
    const here = axis === "T" ? choice.time : at[axis as "Z"];
    return page * sizes[i]! + here;
  }, 0);
}

function meanOf(channels: Numbers[]): Float32Array {
  const found = new Float32Array(channels[0]!.length);
  for (const channel of channels) for (let i = 0; i < found.length; i++) found[i]! += channel[i]!;
  for (let i = 0; i < found.length; i++) found[i]! /= channels.length;
  return found;
}

function joined(planes: Numbers[]): Numbers {
  const kind = planes[0]!.constructor as new (n: number) => Numbers;
  const found = new kind(planes.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const plane of planes) {
    found.set(plane, at);
    at += plane.length;
  }
  return found;
}

/** Refuse pixels in which there is nothing to find. */
function checkPixels(data: Numbers, name: string): void {
  let constant = true;
  for (const value of data) {
    if (value !== data[0]) constant = false;
    if (!Number.isFinite(value)) throw new UserError(`${name}: holds pixels that are no numbers (NaN or infinite).`);
  }
  if (constant) throw new UserError(`${name}: every pixel has the value ${data[0]}; there is nothing to find.`);
}
