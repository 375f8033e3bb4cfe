// Pictures are zoomed by their width, and moved by the scrolling of their box: both work by keyboard too.
"use strict";
for (const view of document.querySelectorAll(".view")) {
  const svg = view.querySelector("svg");
  const name = view.getAttribute("aria-label");
  let zoom = 1;
  const to = (wanted, x = view.clientWidth / 2, y = view.clientHeight / 2) => {
    const before = svg.clientWidth;
    zoom = Math.min(16, Math.max(1, wanted));
    svg.style.width = `${100 * zoom}%`;
    svg.style.maxHeight = `${80 * zoom}vh`;
    const times = svg.clientWidth / before;
    view.scrollLeft = (view.scrollLeft + x) * times - x;
    view.scrollTop = (view.scrollTop + y) * times - y;
    said.textContent = `${Math.round(100 * zoom)} %`;
  };
  const tools = document.createElement("span");
  tools.className = "tools";
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  said.textContent = "100 %";
  const button = (text, label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", `${label}: ${name}`);
    made.addEventListener("click", act);
    tools.append(made);
  };
  button("−", "Smaller", () => to(zoom / 1.5));
  button("+", "Larger", () => to(zoom * 1.5));
  button("Fit", "Fit", () => to(1));
  tools.append(said);
  view.previousElementSibling.append(tools);
  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") to(zoom * 1.5);
    else if (event.key === "-") to(zoom / 1.5);
    else if (event.key === "0") to(1);
    else return;
    event.preventDefault();
  });
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = view.getBoundingClientRect();
    to(zoom * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || zoom === 1 || event.pointerType === "touch") return;
    view.setPointerCapture(event.pointerId);
    view.classList.add("dragging");
    view.focus({ preventScroll: true });
    event.preventDefault();
  });
  view.addEventListener("pointermove", (event) => {
    if (!view.hasPointerCapture(event.pointerId)) return;
    view.scrollBy(-event.movementX, -event.movementY);
  });
  view.addEventListener("pointerup", () => view.classList.remove("dragging"));
}
