/** A model file as a network that runs in ONNX Runtime Web. */

import type * as Ort from "onnxruntime-web/wasm";

import { type Card, readCard } from "./core/card";
import { UserError } from "./core/errors";
import { describeOnnx, withOneOutput } from "./core/onnx";
import type { Network } from "./core/predictor";

const [CARD, IMAGE, PROBABILITIES, SIZES] = ["cleft", "image", "probabilities", "sizes"];

const ERRORS = 3; // and nothing less is logged

export type Provider = "wasm" | "webgpu";

export type Runtime = typeof Ort;

let ort: Runtime;

/** Say which runtime to use, and its program if that isn't where it looks for it: once, before the first model. */
export function prepare(runtime: Runtime, wasmBinary?: ArrayBuffer): void {
  ort = runtime;
  ort.env.wasm.numThreads = 1; // more need headers that not every host sends
  ort.env.logLevel = "error";
  if (wasmBinary) ort.env.wasm.wasmBinary = wasmBinary;
}

/** The card of a model file, without running it. */
export function cardOf(model: Uint8Array, source: string): Card {
  const { metadata, outputs } = describeOnnx(model, source);
  const card = metadata.get(CARD!);
  if (card === undefined || !outputs.includes(PROBABILITIES!)) {
    throw new UserError(`${source}: an ONNX file, but not a model of cleft; expected what cleft export --to onnx writes.`);
  }
  return readCard(card, source);
}

/** The network of a model file; each of its outputs is made ready when it is first asked for. */
export function loadNetwork(model: Uint8Array, source: string, provider: Provider = "wasm"): Network {
  const card = cardOf(model, source);
  const sessions = new Map<string, Promise<Ort.InferenceSession>>();
  const ask = async (output: string, pixels: Float32Array, shape: readonly number[]): Promise<Float32Array> => {
    let session = sessions.get(output);
    if (!session) {
      session = ort.InferenceSession.create(withOneOutput(model, output), {
        executionProviders: [provider],
        logSeverityLevel: ERRORS,
      });
      sessions.set(output, session);
    }
    const image = new ort.Tensor("float32", pixels, [1, 1, ...shape]);
    const found = (await (await session).run({ [IMAGE!]: image }))[output]!;
    const values = (await found.getData()) as Float32Array;
    found.dispose();
    return values;
  };
  const tells = card.net.size_head && describeOnnx(model, source).outputs.includes(SIZES!);
  return {
    card,
    probabilities: (pixels, shape) => ask(PROBABILITIES!, pixels, shape),
    sizes: tells ? (pixels, shape) => ask(SIZES!, pixels, shape) : null,
  };
}

