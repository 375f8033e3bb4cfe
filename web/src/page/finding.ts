/** Finding: the model, the size of the cells, what computes, and how far it is. */

import type { Image } from "../core/arrays";
import type { Card } from "../core/card";
import { UserError } from "../core/errors";
import type { Diameter } from "../core/scale";
import type { Answer, ModelSource, Result } from "../messages";
import type { Client, Provider } from "./client";
import { byId, input, numberIn, option, say, select, show, telling } from "./dom";

/** A model as models.json lists it. */
interface Shipped {
  name: string;
  axes: string;
  bytes: number;
  about: string;
}

interface Known {
  source: ModelSource;
  axes: string;
  about: string;
  card?: Card;
}

type Progress = Extract<Answer, { progress: unknown }>["progress"];
const STAGES: Record<Progress["stage"], string> = {
  model: "Loading the model", size: "Looking how large the cells are", network: "Looking at tile",
  cells: "Putting the cells together",
};

export class Finding {
  private readonly models = new Map<string, Known>();
  private image: Image | null = null;
  isRunning = false;

  constructor(
    private readonly client: Client,
    private readonly found: (result: Result, image: Image) => void,
  ) {
    byId("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.isRunning) void telling(() => this.find());
    });
    byId("cancel").addEventListener("click", () => this.client.cancel());
    select("model").addEventListener("change", () => this.tellModel());
    select("size").addEventListener("change", () => show("known-row", select("size").value === "known"));
    select("device").addEventListener("change", () => this.client.use(select("device").value as Provider));
    input("model-file").addEventListener("change", () => {
      const file = input("model-file").files?.[0];
      if (file) void telling(() => this.add(file));
      input("model-file").value = "";
    });
  }

  /** The models that lie beside the page. */
  async list(): Promise<void> {
    const answer = await fetch("models/models.json");
    if (!answer.ok) throw new UserError("The list of models could not be loaded.");
    for (const { name, axes, bytes, about } of (await answer.json()) as Shipped[]) {
      const url = new URL(`models/${name}.onnx`, location.href).href;
      this.models.set(name, { source: { name, url }, axes, about: `${about} ${(bytes / 1e6).toFixed(0)} MB.` });
    }
    this.offer();
  }

  setImage(image: Image): void {
    this.image = image;
    show("find-part", true);
    byId("progress-said").textContent = "";
    this.offer();
  }

  /** A model of the person's own. */
  async add(file: File): Promise<void> {
    const source: ModelSource = { name: file.name, file };
    const card = await this.client.ask<"card">({ kind: "card", model: source });
    const about = `Your own, for cells about ${card.cell_diameter.toFixed(0)} pixels across.`;
    this.models.set(file.name, { source, axes: card.axes, about, card });
    this.offer(file.name);
    if (this.image && axesOf(this.image) !== card.axes) say(`${file.name}: is a model for ${card.axes === "YX" ? "planes, the image is a stack" : "stacks, the image is a plane"}.`);
  }

  /** List the models for images like this one. */
  private offer(chosen = select("model").value): void {
    const fitting = [...this.models].filter(([, m]) => !this.image || m.axes === axesOf(this.image)).map(([name]) => name);
    select("model").replaceChildren(...fitting.map((name) => option(name, name)));
    if (fitting.includes(chosen)) select("model").value = chosen;
    this.tellModel();
  }

  private tellModel(): void {
    byId("model-said").textContent = this.models.get(select("model").value)?.about ?? "";
  }

  private diameter(): Diameter {
    const said = select("size").value;
    if (said === "default") return null;
    if (said !== "known") return said as Diameter;
    const found = numberIn("diameter");
    if (found === null || found < 2) {
      input("diameter").focus();
      throw new UserError("How large are the cells? Give their diameter in pixels, at least 2, or draw a line over one.");
    }
    return found;
  }

  private async find(): Promise<void> {
    const model = this.models.get(select("model").value);
    if (!this.image || !model) throw new UserError("There is no model for images like this one.");
    const { image } = this;
    const diameter = this.diameter();
    this.busy(true);
    try {
      const job = { kind: "segment", model: model.source, image, diameter } as const;
      const result = await this.client.ask<"segment">(job, (progress) => this.tell(progress));
      if (this.image !== image) return;
      byId("progress-said").textContent = said(result);
      this.found(result, image);
    } catch (error) {
      byId("progress-said").textContent = error instanceof UserError ? "" : "Cancelled.";
      throw error;
    } finally {
      this.busy(false);
    }
  }

  private busy(running: boolean): void {
    this.isRunning = running;
    byId<HTMLButtonElement>("find").disabled = running;
    show("cancel", running);
    show("progress-row", running);
    if (running) {
      byId<HTMLProgressElement>("progress").removeAttribute("value");
      byId("cancel").focus();
    } else if (document.activeElement === document.body || document.activeElement === byId("cancel")) byId("find").focus();
  }

  private tell({ stage, done, of }: Progress): void {
    const bar = byId<HTMLProgressElement>("progress");
    if (of > 1) bar.value = done / of;
    else bar.removeAttribute("value");
    const tile = stage === "network" ? ` ${Math.min(done + 1, of)} of ${of}` : "";
    const text = `${STAGES[stage]}${tile}`;
    // read aloud when it changes, not at each step
    if (byId("progress-said").textContent !== text) byId("progress-said").textContent = text;
  }
}

function axesOf(image: Image): string {
  return image.shape.length === 3 ? "ZYX" : "YX";
}

function said({ estimated, seconds, table }: Result): string {
  const size = estimated === null ? "" : ` Cells look ${estimated.toFixed(0)} pixels across.`;
  const none = table.count === 0 ? " No cell was found: if there are any, tell how large they are." : "";
  return `Done in ${seconds.toFixed(1)} seconds.${size}${none}`;
}
