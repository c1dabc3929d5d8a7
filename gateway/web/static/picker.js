// The device picker of a new job: ticks are kept while the list is searched anew, and
// all that is shown can be ticked at once.
"use strict";

const boxes = () => [...document.querySelectorAll("#picker input[type=checkbox]")];
let ticks = new Map();

// An answer may be on its way while somebody ticks a box.
document.addEventListener("htmx:beforeSwap", (ev) => {
  if (ev.target.id === "picker") ticks = new Map(boxes().map((box) => [box.value, box.checked]));
});
document.addEventListener("htmx:afterSettle", () => {
  for (const box of boxes()) if (ticks.has(box.value)) box.checked = ticks.get(box.value);
  ticks = new Map();
});

for (const button of document.querySelectorAll("[data-pick]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    for (const box of boxes()) box.checked = button.dataset.pick === "all";
    document.getElementById("new-job").dispatchEvent(new Event("change", { bubbles: true }));
  });
}
