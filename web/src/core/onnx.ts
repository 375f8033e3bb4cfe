/**
 * What is read of an ONNX file before it is run, and a part of its graph as a file of its own.
 *
 * Source: onnx.proto3 (the numbers of the fields) and the protocol buffers' encoding.
 */

import { UserError } from "./errors";

const MODEL = { graph: 7, metadata: 14 };
const GRAPH = { node: 1, initializer: 5, output: 12 };
const NODE = { input: 1, output: 2 };
const TENSOR_NAME = 8;
const VALUE_NAME = 1;
const BYTES = 2; // the wire type of texts and messages

interface Field {
  number: number;
  wire: number;
  /** The whole field with its tag. */
  start: number;
  /** What it holds. */
  body: Uint8Array;
  end: number;
}

function* fields(bytes: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) break;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    throw new RangeError("cut short");
  };
  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    const wire = tag % 8;
    let body = at;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === BYTES) {
      const length = varint();
      body = at;
      at += length;
    } else throw new RangeError("no such wire type");
    if (at > bytes.length) throw new RangeError("cut short");
    yield { number: Math.floor(tag / 8), wire, start, body: bytes.subarray(body, at), end: at };
  }
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function texts(message: Uint8Array, number: number): string[] {
  return [...fields(message)].filter((f) => f.number === number).map((f) => text(f.body));
}

function graphOf(model: Uint8Array): Field {
  const found = [...fields(model)].find((f) => f.number === MODEL.graph && f.wire === BYTES);
  if (!found) throw new RangeError("no graph");
  return found;
}

/** The texts that a model carries, by name, and the names of its outputs. */
export function describeOnnx(model: Uint8Array, source: string): { metadata: Map<string, string>; outputs: string[] } {
  try {
    const metadata = new Map<string, string>();
    for (const f of fields(model)) {
      if (f.number === MODEL.metadata) metadata.set(texts(f.body, 1)[0] ?? "", texts(f.body, 2)[0] ?? "");
    }
    const outputs = [...fields(graphOf(model).body)]
      .filter((f) => f.number === GRAPH.output)
      .map((f) => texts(f.body, VALUE_NAME)[0] ?? "");
    return { metadata, outputs };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`${source}: damaged or not an ONNX file; expected what cleft export --to onnx writes.`);
  }
}

function varintOf(value: number): number[] {
  const found = [];
  for (; value > 127; value = Math.floor(value / 128)) found.push((value % 128) + 128);
  return [...found, value];
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The model with one of its outputs alone, and of its graph what that needs. */
export function withOneOutput(model: Uint8Array, name: string): Uint8Array {
  const graph = graphOf(model);
  const parts = [...fields(graph.body)];
  const needed = new Set([name]);
  const kept = new Set<Field>();
  // nodes stand in the order they are computed in
  for (const f of parts.filter((p) => p.number === GRAPH.node).reverse()) {
    if (!texts(f.body, NODE.output).some((made) => needed.has(made))) continue;
    kept.add(f);
    for (const taken of texts(f.body, NODE.input)) needed.add(taken);
  }
  const stays = (f: Field): boolean => {
    if (f.number === GRAPH.node) return kept.has(f);
    if (f.number === GRAPH.initializer) return texts(f.body, TENSOR_NAME).some((n) => needed.has(n));
    if (f.number === GRAPH.output) return texts(f.body, VALUE_NAME)[0] === name;
    return true;
  };
  const body = joined(parts.filter(stays).map((f) => graph.body.subarray(f.start, f.end)));
  const tag = new Uint8Array([...varintOf(MODEL.graph * 8 + BYTES), ...varintOf(body.length)]);
  return joined([model.subarray(0, graph.start), tag, body, model.subarray(graph.end)]);
}
