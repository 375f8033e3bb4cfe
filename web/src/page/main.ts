/** The page: what its parts have to do with each other. */

import type { Image } from "../core/arrays";
import { Client, type Provider } from "./client";
import { byId, input, select, show, telling } from "./dom";
import { Finding } from "./finding";
import { Opening } from "./opening";
import { tellPlane, watchPicture } from "./picture";
import { Results } from "./results";
import { type Show, View } from "./view";

const hasGraphicsCard = await findGraphicsCard();
select("device").value = hasGraphicsCard ? "webgpu" : "wasm";
show("device-row", hasGraphicsCard);

const client = new Client(select("device").value as Provider);
const view = new View(byId<HTMLCanvasElement>("canvas"));
const results = new Results(client, view);
const finding = new Finding(client, (result, image) => results.set(result, image));
const opening = new Opening(client, look, (spacing) => {
  if (view.image) view.image.spacing = spacing;
});
const picture = watchPicture(byId<HTMLCanvasElement>("canvas"), view, {
  cell: (label) => results.pick(label),
  line: (pixels) => {
    input("diameter").value = pixels.toFixed(1);
    drawing(false);
  },
});

function look(image: Image, name: string): void {
  show("welcome", false);
  show("viewer", true);
  show("view-part", true);
  results.clear();
  results.name = name;
  view.open(image);
  tellPlane(view);
  finding.setImage(image);
}

function drawing(on: boolean): void {
  picture.draw(on);
  byId("draw").setAttribute("aria-pressed", String(on));
}

async function take(file: File): Promise<void> {
  if (finding.isRunning) client.cancel(); // its worker couldn't listen before it is done
  await (file.name.toLowerCase().endsWith(".onnx") ? finding.add(file) : opening.open(file));
}

/** Whether the browser can compute on a graphics card, and has one that isn't played by the processor. */
async function findGraphicsCard(): Promise<boolean> {
  type Adapter = { info?: { isFallbackAdapter?: boolean } } | null;
  const { gpu } = navigator as Navigator & { gpu?: { requestAdapter(): Promise<Adapter> } };
  if (!gpu || !("Suspending" in WebAssembly)) return false;
  const adapter = await gpu.requestAdapter().catch(() => null);
  return adapter !== null && !adapter.info?.isFallbackAdapter;
}

for (const id of ["file", "file-again"]) {
  input(id).addEventListener("change", () => {
    const file = input(id).files?.[0];
    if (file) void telling(() => take(file));
    input(id).value = ""; // so that the same file can be chosen again
  });
}
byId("draw").addEventListener("click", () => drawing(byId("draw").getAttribute("aria-pressed") !== "true"));
select("show").addEventListener("change", () => {
  view.show = select("show").value as Show;
  view.redraw();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer?.files[0];
  if (file) void telling(() => take(file));
});
void telling(() => finding.list());
document.body.dataset.ready = "yes";
