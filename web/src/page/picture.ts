/** What mouse, finger and keyboard do to the picture. */

import { byId, input, show } from "./dom";
import type { View } from "./view";

const CLICK = 5; // pixels that a press may move and still be a click
const STEP = 1.25;

export interface Picked {
  cell(label: number): void;
  line(pixels: number): void;
}

export function watchPicture(canvas: HTMLCanvasElement, view: View, picked: Picked): { draw(on: boolean): void } {
  let drawing = false;
  const down = new Map<number, [number, number]>();
  let start: [number, number] | null = null;
  let moved = 0;
  const place = (event: PointerEvent | WheelEvent): [number, number] => {
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    [start, moved] = [place(event), 0];
    if (drawing) view.line = [...view.toImage(...start), ...view.toImage(...start)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    tell(view, now);
    const before = down.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    moved += Math.hypot(dx, dy);
    if (down.size === 2) pinch(view, down, event.pointerId, now);
    else if (drawing && view.line && start) {
      view.line = [...view.toImage(...start), ...view.toImage(...now)];
      view.redraw();
    } else view.moveBy(dx, dy);
    down.set(event.pointerId, now);
  });
  const up = (event: PointerEvent): void => {
    if (!down.delete(event.pointerId) || down.size > 0) return;
    if (drawing && view.line) {
      const [x1, y1, x2, y2] = view.line;
      picked.line(Math.hypot(x2 - x1, y2 - y1));
    } else if (moved < CLICK) {
      const index = view.indexAt(...view.toImage(...place(event)));
      const label = index >= 0 && view.cells ? view.cells.labels[index]! : 0;
      picked.cell(view.cells?.kept[label] ? label : 0);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => (byId("reading").textContent = ""));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      view.zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, place(event));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && view.key(event.key)) event.preventDefault();
  });
  byId("zoom-in").addEventListener("click", () => view.zoomBy(STEP));
  byId("zoom-out").addEventListener("click", () => view.zoomBy(1 / STEP));
  byId("zoom-fit").addEventListener("click", () => view.fit());
  for (const id of ["wipe", "black", "white"] as const) {
    input(id).addEventListener("input", () => {
      const value = Number(input(id).value);
      view[id] = id === "wipe" ? value / 100 : value;
      view.redraw();
    });
  }
  input("plane").addEventListener("input", () => {
    view.plane = Number(input("plane").value) - 1;
    tellPlane(view);
    view.redraw();
  });
  return {
    draw(on): void {
      drawing = on;
      canvas.classList.toggle("drawing", on);
    },
  };
}

/** Zoom by how far two fingers come apart. */
function pinch(view: View, down: Map<number, [number, number]>, id: number, now: [number, number]): void {
  const other = [...down].find(([key]) => key !== id)![1];
  const before = down.get(id)!;
  const distance = (p: [number, number]): number => Math.max(1, Math.hypot(p[0] - other[0], p[1] - other[1]));
  view.zoomBy(distance(now) / distance(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
}

/** The place and its intensity under the pointer. */
function tell(view: View, at: [number, number]): void {
  const [x, y] = view.toImage(...at);
  const index = view.indexAt(x, y);
  const value = index < 0 ? 0 : view.image!.data[index]!;
  byId("reading").textContent =
    index < 0 ? "" : `${Math.floor(x)}, ${Math.floor(y)}: ${Number(value.toPrecision(6)).toLocaleString("en-GB")}`;
}

export function tellPlane(view: View): void {
  const planes = view.image?.shape.length === 3 ? view.image.shape[0]! : 1;
  show("plane-row", planes > 1);
  input("plane").max = String(planes);
  input("plane").value = String(view.plane + 1);
  byId("plane-said").textContent = `${view.plane + 1} of ${planes}`;
}
