/** JPEG files, which the browser itself unpacks; their size is checked before. */

import { UserError } from "../core/errors";
import { type Opened, checkSize } from "./opened";
import { channelOf } from "./png";

export async function openJpeg(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<Opened> {
  const { width, height, samples } = frameOf(bytes, name);
  checkSize(name, width * height);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  } catch {
    throw new UserError(`${name}: a damaged JPEG file.`);
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d")!;
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const pixels = new Uint8Array(data.buffer);
  return {
    header: {
      name, width: bitmap.width, height: bitmap.height, pages: 1, samples: samples === 1 ? 1 : 3,
      arrangement: { axes: "", sizes: [] }, spacing: {},
      note: "JPEG changes intensities where cells meet; a TIFF or PNG from the microscope gives better outlines.",
    },
    readPlane: (_, sample) => Promise.resolve(channelOf(pixels, bitmap.width * bitmap.height, 4, sample)),
  };
}

/** What the header of the frame says. */
function frameOf(bytes: Uint8Array, name: string): { width: number; height: number; samples: number } {
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1]!;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    const two = (i: number): number => bytes[i]! * 256 + bytes[i + 1]!;
    if (isFrame) return { height: two(at + 5), width: two(at + 7), samples: bytes[at + 9]! };
    at += 2 + two(at + 2);
  }
  throw new UserError(`${name}: a damaged JPEG file.`);
}
