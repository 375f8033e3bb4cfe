/** PNG files of 1 to 16 bits, their size checked before they are unpacked. */

import { decode } from "fast-png";

import type { Numbers } from "../core/arrays";
import { UserError } from "../core/errors";
import { type Opened, checkSize } from "./opened";

const MAX_METRES = 1e-3; // of a pixel; what is coarser is the resolution of a screen or a printer

export function openPng(bytes: Uint8Array<ArrayBuffer>, name: string): Opened {
  if (bytes.length < 33) throw new UserError(`${name}: a PNG file that is cut short.`);
  const header = new DataView(bytes.buffer, bytes.byteOffset);
  const [width, height] = [header.getUint32(16), header.getUint32(20)];
  checkSize(name, width * height);
  let png;
  try {
    png = decode(bytes, { checkCrc: true });
  } catch (error) {
    throw new UserError(`${name}: a damaged PNG file (${(error as Error).message.slice(0, 200)}).`);
  }
  if (png.palette) throw new UserError(`${name}: is a picture of listed colours, not of intensities.`);
  const { channels } = png;
  const data = (png.depth < 8 ? unpacked(png.data as Uint8Array, width, height, png.depth) : png.data) as Numbers;
  // the last of two and of four is how opaque the pixel is
  const samples = channels % 2 === 0 ? channels - 1 : channels;
  const metres = png.resolution?.unit === 1 ? 1 / png.resolution.x : 0;
  const um = metres > 0 && metres < MAX_METRES / 50 ? metres * 1e6 : undefined;
  return {
    header: {
      name, width, height, pages: 1, samples, arrangement: { axes: "", sizes: [] },
      spacing: um === undefined ? {} : { Y: um, X: um }, note: "",
    },
    readPlane: (_, sample) => Promise.resolve(channelOf(data, width * height, channels, sample)),
  };
}

/** One of the channels that stand beside each other for every pixel. */
export function channelOf(data: Numbers, pixels: number, channels: number, channel: number): Numbers {
  const kind = data.constructor as new (n: number) => Numbers;
  const found = new kind(pixels);
  for (let i = 0; i < pixels; i++) found[i] = data[i * channels + channel]!;
  return found;
}

/** Pixels of less than a byte, each row beginning with a byte. */
function unpacked(data: Uint8Array, width: number, height: number, depth: number): Uint8Array {
  const found = new Uint8Array(width * height);
  const row = Math.ceil((width * depth) / 8);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      found[y * width + x] = (data[y * row + (bit >> 3)]! >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
    }
  }
  return found;
}
