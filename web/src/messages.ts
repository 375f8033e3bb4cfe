/** What the page and its worker say to each other. */

import type { Image } from "./core/arrays";
import type { Card } from "./core/card";
import type { Table } from "./core/measure";
import type { Diameter } from "./core/scale";
import type { Stage } from "./core/segment";
import type { Header } from "./io/opened";
import type { Choice } from "./io/read";

/** A model of the page's own, by where it lies, or one that was dropped. */
export interface ModelSource {
  name: string;
  url?: string;
  file?: Blob;
}

export type Download = "labels" | "geojson" | "rois" | "csv";

export type Job =
  | { kind: "open"; file: File }
  | { kind: "read"; file: File; choice: Choice }
  | { kind: "made"; stack: boolean; seed: number }
  | { kind: "card"; model: ModelSource }
  | { kind: "segment"; model: ModelSource; image: Image; diameter: Diameter }
  | { kind: "write"; what: Download; labels: Uint32Array; image: Image; table: Table; kept: Uint8Array };

/** Probabilities of the classes but the last, as bytes one class after the other. */
export interface Result {
  labels: Uint32Array;
  table: Table;
  probabilities: Uint8Array | null;
  estimated: number | null;
  seconds: number;
}

export interface Answers {
  open: Header;
  read: Image;
  made: Image;
  card: Card;
  segment: Result;
  write: Blob;
}

export type Ask = { id: number; job: Job } | { setup: { runtime: string; provider: "wasm" | "webgpu" } };

export type Answer =
  | { id: number; answer: Answers[keyof Answers] }
  | { id: number; progress: { stage: Stage | "model"; done: number; of: number } }
  | { id: number; error: string; expected: boolean };
