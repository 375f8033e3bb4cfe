/** Labels as a compressed OME-TIFF, of 16 bits, or of 32 where there are more cells. */

import type { Labels } from "../core/labels";

const [SHORT, LONG, ASCII] = [3, 4, 2]; // types of a field
const DEFLATE = 8; // of the compressions
const STRIP_BYTES = 1 << 22;

/** The bytes of a file; shape is (Z, Y, X) or (Y, X), spacing micrometres per pixel along each. */
export async function labelsToTiff(
  labels: Labels,
  shape: readonly number[],
  spacing: readonly number[] | null,
  bits: 16 | 32 = labels.count > 65535 ? 32 : 16,
): Promise<Blob> {
  const [height, width] = shape.slice(-2) as [number, number];
  const planes = shape.length === 3 ? shape[0]! : 1;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_BYTES / (width * (bits / 8)))));
  const description = omeXml(width, height, planes, bits, spacing);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let at = 8;
  const add = (bytes: Uint8Array<ArrayBuffer>): number => {
    const start = at;
    parts.push(bytes);
    at += bytes.length;
    if (at % 2) {
      parts.push(new Uint8Array(1));
      at++;
    }
    return start;
  };
  const directories: { fields: [number, number, number[] | Uint8Array<ArrayBuffer>][] }[] = [];
  for (let z = 0; z < planes; z++) {
    const [offsets, counts]: [number[], number[]] = [[], []];
    for (let y = 0; y < height; y += rows) {
      const start = (z * height + y) * width;
      const part = labels.data.subarray(start, start + Math.min(rows, height - y) * width);
      const strip = await deflated(bits === 16 ? Uint16Array.from(part) : Uint32Array.from(part));
      counts.push(strip.length);
      offsets.push(add(strip));
    }
    const text = z === 0 ? [[270, ASCII, asText(description)] as [number, number, Uint8Array<ArrayBuffer>]] : [];
    directories.push({
      fields: [
        [256, LONG, [width]], [257, LONG, [height]], [258, SHORT, [bits]], [259, SHORT, [DEFLATE]], [262, SHORT, [1]],
        ...text, [273, LONG, offsets], [277, SHORT, [1]], [278, LONG, [rows]], [279, LONG, counts],
        [305, ASCII, asText("cleft, in a browser")], [339, SHORT, [1]],
      ],
    });
  }
  const [header, tail] = directoriesOf(directories.map((d) => d.fields), at);
  return new Blob([header, ...parts, ...tail], { type: "image/tiff" });
}

/** The file's first bytes, and its directories with the values that don't fit into a field. */
function directoriesOf(
  pages: [number, number, number[] | Uint8Array<ArrayBuffer>][][],
  end: number,
): [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>[]] {
  const header = new Uint8Array(8);
  header.set([0x49, 0x49, 42, 0]);
  let pointer = new DataView(header.buffer);
  let pointerAt = 4;
  const tail: Uint8Array<ArrayBuffer>[] = [];
  for (const fields of pages) {
    const directory = new DataView(new ArrayBuffer(2 + 12 * fields.length + 4));
    pointer.setUint32(pointerAt, end, true);
    end += directory.byteLength;
    tail.push(new Uint8Array(directory.buffer));
    directory.setUint16(0, fields.length, true);
    fields.forEach(([tag, type, values], i) => {
      const entry = 2 + 12 * i;
      const bytes = type === ASCII ? (values as Uint8Array<ArrayBuffer>) : bytesOf(values as number[], type);
      directory.setUint16(entry, tag, true);
      directory.setUint16(entry + 2, type, true);
      directory.setUint32(entry + 4, values.length, true);
      if (bytes.length <= 4) new Uint8Array(directory.buffer).set(bytes, entry + 8);
      else {
        directory.setUint32(entry + 8, end, true);
        const even = new Uint8Array(bytes.length + (bytes.length % 2));
        even.set(bytes);
        tail.push(even);
        end += even.length;
      }
    });
    pointer = directory;
    pointerAt = 2 + 12 * fields.length;
  }
  return [header, tail];
}

function bytesOf(values: number[], type: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(type === SHORT ? Uint16Array.from(values).buffer : Uint32Array.from(values).buffer);
}

function asText(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

async function deflated(values: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([values]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function omeXml(
  width: number,
  height: number,
  planes: number,
  bits: number,
  spacing: readonly number[] | null,
): string {
  const letters = ["X", "Y", "Z"];
  const sizes = [...(spacing ?? [])].reverse().map((s, i) => ` PhysicalSize${letters[i]}="${s}" PhysicalSize${letters[i]}Unit="um"`);
  return (
    '<?xml version="1.0" encoding="UTF-8"?>' +
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="cleft">' +
    '<Image ID="Image:0" Name="labels"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" ' +
    `Type="uint${bits}" SizeX="${width}" SizeY="${height}" SizeZ="${planes}" SizeC="1" SizeT="1"${sizes.join("")}>` +
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
  );
}
