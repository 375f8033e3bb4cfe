/** TIFF files, plain, ImageJ and OME: pages, their arrangement and the pixel size they state. */

import { type GeoTIFF, type GeoTIFFImage, fromArrayBuffer, fromBlob } from "geotiff";

import type { Numbers } from "../core/arrays";
import { UserError } from "../core/errors";
import { type Arrangement, type Header, type Opened, checkSize } from "./opened";
import { micrometres } from "./units";

const COARSEST_UM = 20; // beyond it a resolution is that of a screen or a printer
const AT_ONCE = 1 << 28; // bytes; of larger files no more is read than is needed
const MAX_PAGES = 100_000;

export async function openTiff(file: Blob, name: string): Promise<Opened> {
  const damaged = (error: unknown): never => {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name}: damaged, or a TIFF of a kind that this page can't read (${reason(error)}).`);
  };
  try {
    const tiff = await (file.size <= AT_ONCE ? fromArrayBuffer(await file.arrayBuffer()) : fromBlob(file));
    const pages = await fullPages(tiff, name);
    const header = await headerOf(pages, name);
    return {
      header,
      readPlane: async (page, sample) => {
        try {
          return await readPage(pages[page]!, sample, name);
        } catch (error) {
          return damaged(error);
        }
      },
    };
  } catch (error) {
    return damaged(error);
  }
}

/** The pages of full size: smaller ones of a pyramid are left out. */
async function fullPages(tiff: GeoTIFF, name: string): Promise<GeoTIFFImage[]> {
  const pages: GeoTIFFImage[] = [];
  const count = await tiff.getImageCount();
  if (count > MAX_PAGES) throw new UserError(`${name}: has ${count} pages, expected at most ${MAX_PAGES}.`);
  for (let i = 0; i < count; i++) {
    const page = await tiff.getImage(i);
    const kind = Number((await page.getFileDirectory().loadValue("NewSubfileType")) ?? 0);
    if ((kind & 1) === 0) pages.push(page);
  }
  const [first] = pages;
  if (!first) throw new UserError(`${name}: has no page with an image.`);
  checkSize(name, first.getWidth() * first.getHeight());
  for (const page of pages) {
    const alike = page.getWidth() === first.getWidth() && page.getHeight() === first.getHeight();
    if (!alike) throw new UserError(`${name}: its pages have different sizes; expected one size.`);
  }
  return pages;
}

async function headerOf(pages: GeoTIFFImage[], name: string): Promise<Header> {
  const first = pages[0]!;
  const directory = first.getFileDirectory();
  const said = String((await directory.loadValue("ImageDescription")) ?? "");
  const resolution = async (tag: "XResolution" | "YResolution"): Promise<number> => {
    const found = ((await directory.loadValue(tag)) ?? [0, 1]) as ArrayLike<number>;
    return found[1]! / found[0]!; // of a unit, per pixel
  };
  const [x, y] = [await resolution("XResolution"), await resolution("YResolution")];
  const unit = { 2: "inch", 3: "cm" }[Number((await directory.loadValue("ResolutionUnit")) ?? 1)] ?? "";
  const described = said.includes("<OME") ? fromOme(said) : said.startsWith("ImageJ=") ? fromImageJ(said, x, y) : null;
  let spacing = described?.spacing ?? {};
  if (!described) {
    const [X, Y] = [micrometres(x, unit), micrometres(y, unit)];
    if (X !== undefined && Y !== undefined && Math.max(X, Y) <= COARSEST_UM) spacing = { X, Y };
  }
  let arrangement = described?.arrangement ?? null;
  const told = Number(/^images=(\d+)$/m.exec(said)?.[1] ?? 1);
  if (said.startsWith("ImageJ=") && told > pages.length) {
    throw new UserError(
      `${name}: has ${told} planes, of which this page can read ${pages.length}: ImageJ writes files of more than ` +
        "4 GB in a way of its own. Save it as OME-TIFF, or take cleft segment.",
    );
  }
  if (arrangement && arrangement.sizes.reduce((a, b) => a * b, 1) !== pages.length) arrangement = null;
  if (pages.length === 1) arrangement = { axes: "", sizes: [] };
  const samples = first.getSamplesPerPixel();
  return {
    name, width: first.getWidth(), height: first.getHeight(), pages: pages.length, samples, arrangement, spacing,
    note: "",
  };
}

interface Described {
  arrangement: Arrangement;
  spacing: Header["spacing"];
}

/** What OME-XML says; only the pixels of its first image. */
function fromOme(xml: string): Described | null {
  const pixels = /<(?:\w+:)?Pixels\b([^>]*)>/.exec(xml)?.[1];
  if (pixels === undefined) return null;
  const said = (key: string): string | undefined => new RegExp(`\\b${key}\\s*=\\s*["']([^"']*)["']`).exec(pixels)?.[1];
  const order = (said("DimensionOrder") ?? "XYZCT").slice(2);
  const axes = [...order].reverse().filter((a) => "TCZ".includes(a));
  const spacing: Header["spacing"] = {};
  for (const axis of ["Z", "Y", "X"] as const) {
    const size = micrometres(Number(said(`PhysicalSize${axis}`) ?? NaN), said(`PhysicalSize${axis}Unit`) ?? "µm");
    if (size !== undefined) spacing[axis] = size;
  }
  return { arrangement: { axes: axes.join(""), sizes: axes.map((a) => Number(said(`Size${a}`) ?? 1)) }, spacing };
}

/** What ImageJ's description says: lines of name=value. */
function fromImageJ(text: string, x: number, y: number): Described {
  const said = new Map(text.split("\n").map((line) => line.split("=", 2) as [string, string]));
  const sizes = ["frames", "slices", "channels"].map((key) => Number(said.get(key) ?? 1));
  const images = Number(said.get("images") ?? 1);
  let axes = "TZC";
  // older files name no axis of their images
  if (sizes.every((n) => n === 1) && images > 1) axes = "";
  const unit = said.get("unit") ?? "";
  const spacing: Header["spacing"] = {};
  const found = {
    Z: micrometres(Number(said.get("spacing") ?? 1), said.get("zunit") ?? unit),
    Y: micrometres(y, said.get("yunit") ?? unit),
    X: micrometres(x, unit),
  };
  for (const axis of ["Z", "Y", "X"] as const) if (found[axis] !== undefined) spacing[axis] = found[axis];
  return { arrangement: { axes, sizes: axes ? sizes : [] }, spacing };
}

async function readPage(page: GeoTIFFImage, sample: number, name: string): Promise<Numbers> {
  const found = await page.readRasters({ samples: [sample], interleave: true });
  if (found instanceof BigUint64Array || found instanceof BigInt64Array) {
    throw new UserError(`${name}: its pixels are whole numbers of 64 bits; expected at most 32.`);
  }
  return found as Numbers;
}

function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!.slice(0, 200);
}
