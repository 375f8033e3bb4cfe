/** An image file that is open: what it says of itself, before its pixels are read. */

import type { Numbers } from "../core/arrays";
import { UserError } from "../core/errors";

/** Axes beyond the plane, outermost first: letters T, C, Z. */
export interface Arrangement {
  axes: string;
  sizes: number[];
}

export interface Header {
  name: string;
  width: number;
  height: number;
  /** Planes in the file. */
  pages: number;
  /** Numbers of each pixel of a plane, such as red, green and blue. */
  samples: number;
  /** How the planes are arranged; null where there are several and the file doesn't say. */
  arrangement: Arrangement | null;
  /** Micrometres per pixel by axis letter, as far as the file says. */
  spacing: { Z?: number; Y?: number; X?: number };
  /** A word about the file for whoever opened it, or nothing. */
  note: string;
}

export interface Opened {
  header: Header;
  /** One channel of one plane, (height, width). */
  readPlane(page: number, sample: number): Promise<Numbers>;
}

export const MAX_PIXELS = 1 << 27; // labels of so many and what they are made with take some 2 GB

/** Refuse what the memory of a browser doesn't hold, before any of it is read. */
export function checkSize(name: string, pixels: number): void {
  if (pixels > MAX_PIXELS) {
    throw new UserError(
      `${name}: has ${million(pixels)} million pixels, and a browser holds ${million(MAX_PIXELS)} million at most; ` +
        "cleft on your computer has no such limit (cleft segment).",
    );
  }
}

export function million(pixels: number): string {
  return (pixels / 1e6).toLocaleString("en-GB", { maximumFractionDigits: 0 });
}
