// The device picker of a new job: ticks are kept while the list is searched anew, and
// all that is shown can be ticked at once.
"use strict";

const boxes = (root = document) => [...root.querySelectorAll("#picker input[type=checkbox]")];
const shown = (root = document) => boxes(root).map((box) => box.value).join("\n") + root.querySelector("#picker")?.textContent;
let ticks = new Map();

// An answer may be on its way while somebody ticks a box. One with the devices that are
// shown already is left out: it would take away the box under a pressed button.
document.addEventListener("htmx:beforeSwap", (ev) => {
  if (ev.target.id !== "picker") return;
  const answer = new DOMParser().parseFromString(ev.detail.serverResponse, "text/html");
  if (shown(answer) === shown()) ev.detail.shouldSwap = false;
  else ticks = new Map(boxes().map((box) => [box.value, box.checked]));
});
// At the swap itself: what is ticked from here on is somebody's newer wish.
document.addEventListener("htmx:afterSwap", () => {
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
