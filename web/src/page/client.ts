/** The page's side of its worker: one job at a time, each a promise; a job that is cancelled ends with its worker. */

import { UserError } from "../core/errors";
import type { Answer, Answers, Ask, Job } from "../messages";

type Progress = Extract<Answer, { progress: unknown }>["progress"];
export type Provider = "wasm" | "webgpu";

/** The job was cancelled: nothing to say. */
export class Cancelled extends Error {}

interface Waiting {
  resolve: (answer: never) => void;
  reject: (error: Error) => void;
  progress: (progress: Progress) => void;
}

export class Client {
  private worker: Promise<Worker> | null = null;
  private waiting = new Map<number, Waiting>();
  private next = 0;

  constructor(private provider: Provider) {}

  /** Compute with something else from now on. */
  use(provider: Provider): void {
    if (provider === this.provider) return;
    this.provider = provider;
    this.cancel();
  }

  async ask<K extends Job["kind"]>(
    job: Extract<Job, { kind: K }>,
    progress: (progress: Progress) => void = () => undefined,
  ): Promise<Answers[K]> {
    const worker = this.start();
    const id = this.next++;
    const answer = new Promise<Answers[K]>((resolve, reject) => this.waiting.set(id, { resolve, reject, progress }));
    try {
      (await worker).postMessage({ id, job } satisfies Ask);
    } catch (error) {
      this.waiting.get(id)?.reject(new UserError(`The image could not be passed on (${String(error)}).`));
    }
    return answer;
  }

  /** End what runs. Files that were open must be opened again. */
  cancel(): void {
    void this.worker?.then((worker) => worker.terminate());
    this.worker = null;
    this.fail(new Cancelled());
  }

  private fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  private start(): Promise<Worker> {
    this.worker ??= this.started().catch((error: unknown) => {
      this.worker = null;
      throw error;
    });
    return this.worker;
  }

  private async started(): Promise<Worker> {
    const { provider } = this;
    const source = await fetch("worker.js");
    if (!source.ok) throw new UserError(`A part of this page could not be loaded (${source.status}).`);
    // from a blob it inherits the page's rule that nothing is asked of other places, whatever headers its host sends
    const url = URL.createObjectURL(new Blob([await source.arrayBuffer()], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Answer>): void => this.hear(data);
    worker.onerror = (event): void => {
      this.worker = null;
      this.fail(new Error(event.message || "the worker ended; most likely memory ran out"));
    };
    const runtime = new URL("runtime", location.href).href;
    worker.postMessage({ setup: { runtime, provider } } satisfies Ask);
    return worker;
  }

  private hear(data: Answer): void {
    const waiting = this.waiting.get(data.id);
    if (!waiting) return;
    if ("progress" in data) {
      waiting.progress(data.progress);
      return;
    }
    this.waiting.delete(data.id);
    if ("error" in data) waiting.reject(data.expected ? new UserError(data.error) : new Error(data.error));
    else waiting.resolve(data.answer as never);
  }
}
