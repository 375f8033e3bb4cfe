/** The cells that were found: how many, how large, which are kept, one of them, and files to take away. */

import type { Image } from "../core/arrays";
import { sizes } from "../core/measure";
import type { Download, Result } from "../messages";
import type { Client } from "./client";
import { byId, input, numberIn, show, telling, thousands } from "./dom";
import { drawHistogram } from "./histogram";
import type { View } from "./view";

const ENDINGS: Record<Download, string> = {
  labels: "_labels.tif", geojson: "_outlines.geojson", rois: "_rois.zip", csv: "_cells.csv",
};
const WORDS: Record<string, string> = {
  z_px: "centre, plane", y_px: "centre, y", x_px: "centre, x", area_px: "area in pixels", volume_px: "volume in pixels",
  diameter_px: "diameter in pixels", area_um2: "area in µm²", volume_um3: "volume in µm³", diameter_um: "diameter in µm",
  border: "at the image's border", intensity_mean: "mean intensity", intensity_min: "least intensity",
  intensity_max: "most intensity",
};

export class Results {
  private result: Result | null = null;
  private image: Image | null = null;
  private kept = new Uint8Array(1);
  name = "image";

  constructor(
    private readonly client: Client,
    private readonly view: View,
  ) {
    for (const id of ["least", "most"]) input(id).addEventListener("input", () => this.filter());
    input("cell").addEventListener("input", () => {
      this.pick(numberIn("cell") ?? 0);
      this.goTo(this.view.picked);
    });
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-download]")) {
      const what = button.dataset.download as Download;
      button.addEventListener("click", () => void telling(() => this.download(what, button)));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawSizes());
    new ResizeObserver(() => this.drawSizes()).observe(byId("histogram"));
  }

  clear(): void {
    this.result = null;
    this.view.setCells(null);
    for (const id of ["cells-part", "download-part", "wipe-row"]) show(id, false);
  }

  set(result: Result, image: Image): void {
    [this.result, this.image] = [result, image];
    this.kept = new Uint8Array(result.table.count + 1).fill(1);
    this.kept[0] = 0;
    for (const id of ["cells-part", "download-part", "wipe-row"]) show(id, true);
    input("least").value = input("most").value = "";
    input("cell").max = String(result.table.count);
    for (const item of document.querySelectorAll<HTMLOptionElement>("#show option[value^=p]")) {
      item.disabled = result.probabilities === null;
    }
    this.view.setCells({ labels: result.labels, probabilities: result.probabilities, kept: this.kept });
    this.pick(0);
    this.filter();
  }

  /** Show the numbers of a cell; 0 is none. */
  pick(label: number): void {
    const known = Number.isInteger(label) && this.kept[label] === 1 ? label : 0;
    this.view.picked = known;
    this.view.redraw();
    if (known && input("cell").value !== String(known)) input("cell").value = String(known);
    if (!known && document.activeElement !== input("cell")) input("cell").value = "";
    const list = byId("cell-said");
    list.replaceChildren();
    if (!known || !this.result) return;
    for (const [column, values] of this.result.table.columns) {
      if (!(column in WORDS)) continue;
      const value = values[known]!;
      const text = column === "border" ? (value ? "yes" : "no") : Number(value.toPrecision(4)).toLocaleString("en-GB");
      const [term, said] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, said.textContent] = [WORDS[column]!, text];
      list.append(term, said);
    }
  }

  private goTo(label: number): void {
    if (!label || !this.result) return;
    const at = (name: string): number => this.result!.table.columns.get(name)?.[label] ?? 0;
    if (this.image!.shape.length === 3) {
      input("plane").value = String(Math.round(at("z_px")) + 1);
      input("plane").dispatchEvent(new Event("input"));
    }
    this.view.lookAt(at("x_px") + 0.5, at("y_px") + 0.5);
  }

  private filter(): void {
    if (!this.result) return;
    const pixels = sizes(this.result.table);
    const [least, most] = [numberIn("least") ?? 0, numberIn("most") ?? Infinity];
    let count = 0;
    for (let label = 1; label < pixels.length; label++) {
      const stays = pixels[label]! >= least && pixels[label]! <= most;
      this.kept[label] = Number(stays);
      count += Number(stays);
    }
    const all = this.result.table.count;
    byId("count").textContent =
      count === all ? `${thousands(all)} ${all === 1 ? "cell" : "cells"}` : `${thousands(count)} of ${thousands(all)} cells`;
    if (!this.kept[this.view.picked]) this.pick(0);
    this.drawSizes();
    this.view.redraw();
  }

  private drawSizes(): void {
    const canvas = byId<HTMLCanvasElement>("histogram");
    if (!this.result || canvas.clientWidth === 0) return;
    const said = drawHistogram(canvas, sizes(this.result.table), this.kept);
    byId("histogram-said").textContent = said;
    canvas.setAttribute("aria-label", said || "No cells.");
  }

  private async download(what: Download, button: HTMLButtonElement): Promise<void> {
    if (!this.result || !this.image) return;
    button.disabled = true;
    try {
      const { labels, table } = this.result;
      const file = await this.client.ask<"write">({ kind: "write", what, labels, image: this.image, table, kept: this.kept });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = this.name.replace(/(\.ome)?\.\w+$/, "") + ENDINGS[what];
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } finally {
      button.disabled = false;
    }
  }
}
