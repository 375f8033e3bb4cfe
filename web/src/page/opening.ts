/** Opening: a file, which part of it, its pixel size; or a made image. */

import type { Image } from "../core/arrays";
import { UserError } from "../core/errors";
import type { Header } from "../io/opened";
import { type Choice, extents } from "../io/read";
import type { Client } from "./client";
import { byId, input, numberIn, option, say, select, show, telling, thousands } from "./dom";

const CHOICES = ["pages-are", "stack-as", "one-plane", "time", "channel"];
const SIZES = ["pixel-size", "plane-distance"];
const COLOURS = ["red", "green", "blue"];

export class Opening {
  private file: File | null = null;
  private header: Header | null = null;
  private made = 0;
  private turn = 0;

  /** Calls `opened` with each image that is to be looked at. */
  constructor(
    private readonly client: Client,
    private readonly opened: (image: Image, name: string) => void,
    private readonly resized: (spacing: Image["spacing"]) => void,
  ) {
    for (const id of CHOICES) byId(id).addEventListener("change", () => void telling(() => this.read()));
    for (const id of SIZES) byId(id).addEventListener("change", () => this.resized(this.spacing()));
    byId("made-plane").addEventListener("click", () => void telling(() => this.make(false)));
    byId("made-stack").addEventListener("click", () => void telling(() => this.make(true)));
  }

  get name(): string {
    return this.file?.name ?? (this.made ? "made" : "");
  }

  async open(file: File): Promise<void> {
    const turn = ++this.turn;
    byId("welcome").setAttribute("aria-busy", "true");
    try {
      const header = await this.client.ask<"open">({ kind: "open", file });
      if (turn !== this.turn) return; // another was opened meanwhile
      [this.file, this.header] = [file, header];
      this.ask(header);
      await this.read();
    } finally {
      byId("welcome").removeAttribute("aria-busy");
    }
  }

  private async make(stack: boolean): Promise<void> {
    const turn = ++this.turn;
    const image = await this.client.ask<"made">({ kind: "made", stack, seed: ++this.made });
    if (turn !== this.turn) return;
    [this.file, this.header] = [null, null];
    for (const id of ["pages-row", "stack-row", "one-plane-row", "time-row", "channel-row", "image-note"]) show(id, false);
    this.tellSizes({ X: image.spacing!.at(-1)!, Z: image.spacing![0]! }, stack);
    this.tell(image, "A made image");
    this.opened(image, "made");
  }

  /** Set the questions to what the file says. */
  private ask(header: Header): void {
    select("pages-are").value = "";
    show("pages-row", header.arrangement === null);
    byId("image-note").textContent = header.note;
    show("image-note", header.note !== "");
    input("one-plane").value = input("time").value = "1";
    const channel = select("channel");
    channel.replaceChildren();
    this.tellSizes(header.spacing, false);
    this.askParts(header);
  }

  /** Show those questions that the file has an answer for. */
  private askParts(header: Header): void {
    const { T, C, Z } = extents(header, this.pagesAre());
    const channel = select("channel");
    if (channel.options.length !== (C > 1 ? C + 1 : 0)) {
      const names = Array.from({ length: C }, (_, c) => (header.samples === 3 && C === 3 ? COLOURS[c]! : `${c + 1}`));
      channel.replaceChildren(...(C > 1 ? [option("mean", "mean of all"), ...names.map((n, c) => option(String(c), n))] : []));
      if (C > 1 && header.samples === 1) channel.value = "0";
    }
    show("channel-row", C > 1);
    show("stack-row", Z > 1);
    show("time-row", T > 1);
    show("one-plane-row", Z > 1 && select("stack-as").value === "one");
    show("plane-distance-row", Z > 1 && select("stack-as").value === "all");
    input("one-plane").max = String(Z);
    input("time").max = String(T);
  }

  private pagesAre(): Choice["pagesAre"] {
    return (select("pages-are").value || null) as Choice["pagesAre"];
  }

  private async read(): Promise<void> {
    const { header } = this;
    if (!header || !this.file) return;
    show("panel", true);
    show("image-part", true);
    this.askParts(header);
    if (header.arrangement === null && this.pagesAre() === null) {
      byId("image-said").textContent = `${header.name}: ${header.width} × ${header.height} pixels, ${thousands(header.pages)} pages`;
      say(`${header.name}: has ${thousands(header.pages)} pages and doesn't say what they are; please choose under “Its pages are”.`);
      select("pages-are").focus();
      return;
    }
    const { T, Z } = extents(header, this.pagesAre());
    const whole = Z > 1 && select("stack-as").value === "all";
    const choice: Choice = {
      pagesAre: this.pagesAre(),
      channel: select("channel").value === "mean" ? "mean" : Number(select("channel").value || 0),
      time: chosen("time", T, "The image number"),
      plane: whole ? "all" : chosen("one-plane", Z, "The plane number"),
      spacing: {},
    };
    const turn = this.turn;
    const image = await this.client.ask<"read">({ kind: "read", file: this.file, choice });
    if (turn !== this.turn) return;
    image.spacing = this.spacingOf(image.shape.length);
    this.tell(image, header.name);
    this.opened(image, header.name);
  }

  private tell(image: Image, name: string): void {
    show("panel", true);
    show("image-part", true);
    byId("image-said").textContent = `${name}: ${[...image.shape].reverse().map(thousands).join(" × ")} pixels`;
  }

  private tellSizes(spacing: Header["spacing"], stack: boolean): void {
    const said = (n: number | undefined): string => (n === undefined ? "" : String(Number(n.toPrecision(6))));
    input("pixel-size").value = said(spacing.X);
    input("plane-distance").value = said(spacing.Z);
    show("plane-distance-row", stack);
  }

  private spacing(): Image["spacing"] {
    return this.spacingOf(byId("plane-distance-row").hidden ? 2 : 3);
  }

  /** Micrometres per pixel along each axis, as the fields say; null where one is empty. */
  private spacingOf(ndim: number): Image["spacing"] {
    const [edge, distance] = [numberIn("pixel-size"), numberIn("plane-distance")];
    if (!edge || edge <= 0 || (ndim === 3 && (!distance || distance <= 0))) return null;
    const said = this.header?.spacing;
    // of a file whose pixels are no squares, the edges keep their ratio
    const [x, y] = [edge, said?.X && said.Y ? (edge * said.Y) / said.X : edge];
    return ndim === 3 ? [distance!, y, x] : [y, x];
  }
}

/** A number of a field, counted from 0. */
function chosen(id: string, of: number, what: string): number {
  if (of === 1) return 0; // and it isn't asked
  const found = numberIn(id) ?? 1;
  if (!Number.isInteger(found) || found < 1 || found > of) {
    throw new UserError(`${what} is ${input(id).value}; expected 1 to ${of}.`);
  }
  return found - 1;
}
