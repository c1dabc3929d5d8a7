// The console's own script. Every page works without it; it adds: live pages,
// questions before what cannot be undone, the theme, the menu on small screens, and
// a few keys. Pieces of a page are addressed by data attributes, so pages bring no
// scripts of their own.
"use strict";

// Live pages: <body data-live="kind=job&..."> follows the event stream, and what
// changed becomes a "davit:changed" event on the body, at most twice a second, on
// which htmx reads the marked parts anew ({{live "id"}} in the templates). The
// browser reconnects by itself and says where it was (Last-Event-ID); at first that is
// where the page was made (data-live-since).
function follow() {
  const query = document.body.dataset.live;
  if (query === undefined || !window.EventSource) return;
  const kinds = new URLSearchParams(query).getAll("kind");
  let since = document.body.dataset.liveSince;
  let source = null, timer = null, last = 0, changed = new Set(), missed = false;
  const show = (state, text) => {
    for (const el of document.querySelectorAll("[data-live-state]")) {
      el.dataset.state = state;
      if (el.textContent !== text) el.textContent = text;
    }
  };
  const tell = () => {
    timer = null;
    if (document.hidden) { missed = true; return; }
    // A part that is being read anew is replaced by the answer, and what it is told meanwhile is lost with it.
    if (document.querySelector("[data-live-part].htmx-request")) { timer = setTimeout(tell, 100); return; }
    last = Date.now();
    document.body.dispatchEvent(new CustomEvent("davit:changed", { detail: { kinds: [...changed] } }));
    changed = new Set();
  };
  const note = (kind) => {
    changed.add(kind);
    if (timer === null) timer = setTimeout(tell, Math.max(0, 500 - (Date.now() - last)));
  };
  const open = () => {
    source = new EventSource("/v1/events?" + query + (since ? "&last_event_id=" + since : ""));
    since = ""; // once: later on, everything is read anew
    source.addEventListener("open", () => show("live", "live"));
    source.addEventListener("error", () => {
      show("waiting", "reconnecting");
      // The browser gives up for good on an answer that is not a stream, as when
      // the session has ended or a server that stands before davit answers.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { open(); note("ready"); }, 5000);
    });
    for (const kind of kinds) source.addEventListener(kind, () => note(kind));
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && missed) { missed = false; note("ready"); }
  });
  document.addEventListener("davit:left", () => note("ready"));
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (ev) => { if (ev.persisted) { open(); note("ready"); } });
  show("waiting", "connecting");
  open();
}

// A part of the page is left alone while somebody works in it or presses something in it,
// and read anew when that is over.
let skipped = false;
function inUse(part) {
  return part.hasAttribute && part.hasAttribute("data-live-part") &&
    (asking !== null && part.contains(asking) || part.matches(":active") || part.querySelector("dialog[open], details[open], input:focus, textarea:focus, select:focus"));
}
function skip(part) {
  skipped = true;
  if (part.matches(":active")) setTimeout(left, 300); // no one event tells the end of every press
}
function left() {
  if (!skipped) return;
  skipped = false;
  document.dispatchEvent(new CustomEvent("davit:left"));
}
document.addEventListener("htmx:beforeRequest", (ev) => {
  if (!inUse(ev.target)) return;
  ev.preventDefault();
  skip(ev.target);
});
// Somebody may have begun while the answer was on its way.
document.addEventListener("htmx:beforeSwap", (ev) => {
  if (!inUse(ev.target)) { noteFocus(ev.target); return; }
  ev.detail.shouldSwap = false;
  skip(ev.target);
});
for (const over of ["focusout", "close", "toggle"]) document.addEventListener(over, left, true);

// A part that was read anew has the focus where it was: on the element that leads to the same
// place or sends the same. By its place alone another job's button could have it.
let focused = null;
function purpose(el) {
  if (el.form) return el.form.action + "?" + new URLSearchParams(new FormData(el.form, el.type === "submit" ? el : null));
  return el.href || el.localName + el.textContent;
}
function alike(part, what) {
  return [...part.querySelectorAll("a[href], button, summary")].filter((el) => purpose(el) === what);
}
function noteFocus(part) {
  focused = null;
  const el = document.activeElement;
  if (part === el || !part.contains(el) || !part.hasAttribute("data-live-part")) return;
  focused = { id: part.id, purpose: purpose(el), nth: alike(part, purpose(el)).indexOf(el) };
}
document.addEventListener("htmx:afterSwap", (ev) => {
  if (!focused || ev.target.id !== focused.id) return;
  const found = alike(ev.target, focused.purpose);
  if (found.length > 0) (found[focused.nth] || found[0]).focus({ preventScroll: true });
  focused = null;
});

// Questions: <form data-confirm="Title" data-confirm-detail data-confirm-button>. A part
// of the form with data-confirm-choice is asked in the dialog, and stands in the form
// where scripts do not run.
let asking = null;
document.addEventListener("submit", (ev) => {
  const form = ev.target, dialog = document.getElementById("confirm");
  if (!form.dataset.confirm || form.dataset.confirmed || !dialog || !dialog.showModal) return;
  ev.preventDefault();
  dialog.querySelector("[data-confirm-title]").textContent = form.dataset.confirm;
  dialog.querySelector("[data-confirm-text]").textContent = form.dataset.confirmDetail || "";
  const yes = dialog.querySelector("[data-confirm-yes]");
  yes.textContent = form.dataset.confirmButton || "Yes";
  yes.classList.toggle("danger", form.dataset.confirmTone !== "calm");
  yes.classList.toggle("primary", form.dataset.confirmTone === "calm");
  const submitter = ev.submitter, choice = form.querySelector("[data-confirm-choice]");
  if (choice) dialog.querySelector("[data-confirm-text]").after(choice);
  asking = form;
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    if (choice) form.prepend(choice);
    asking = null;
    if (dialog.returnValue !== "yes") return;
    form.dataset.confirmed = "yes";
    form.requestSubmit(submitter);
  }, { once: true });
  dialog.showModal();
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (ev) => {
  if (ev.defaultPrevented || ev.target.method === "get" || ev.target.hasAttribute("hx-post")) return;
  if (ev.target.dataset.sent) { ev.preventDefault(); return; }
  ev.target.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) { delete form.dataset.sent; delete form.dataset.confirmed; }
});

// Theme: system, light, dark.
function showTheme() {
  const theme = document.documentElement.dataset.theme || "system";
  for (const el of document.querySelectorAll("[data-theme-name]")) el.textContent = theme;
  for (const el of document.querySelectorAll("[data-theme-switch]")) el.title = "Theme: " + theme;
}
function switchTheme() {
  const root = document.documentElement, order = ["system", "light", "dark"];
  const next = order[(order.indexOf(root.dataset.theme || "system") + 1) % order.length];
  if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
  try { localStorage.setItem("davit-theme", next); } catch (e) { /* it holds for this page */ }
  showTheme();
}

async function copy(button) {
  const from = document.getElementById(button.dataset.copy);
  if (from.select) from.select(); else getSelection().selectAllChildren(from);
  try { await navigator.clipboard.writeText(from.value ?? from.textContent); } catch (e) { document.execCommand("copy"); }
  const word = button.querySelector("span");
  if (word) word.textContent = "Copied";
}

function save(button) {
  const url = URL.createObjectURL(new Blob([document.getElementById(button.dataset.save).value], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = button.dataset.file;
  link.click();
  URL.revokeObjectURL(url);
}

function toggleMenu(button, open) {
  const was = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(open === undefined ? !was : open));
}

document.addEventListener("click", (ev) => {
  const button = ev.target.closest("button, [data-dialog], [data-insert]");
  if (!button) return;
  if (button.hasAttribute("data-theme-switch")) switchTheme();
  if (button.hasAttribute("data-menu")) toggleMenu(button);
  if (button.dataset.copy) copy(button);
  if (button.dataset.save) save(button);
  if (button.dataset.dialog) document.getElementById(button.dataset.dialog).showModal();
  if (button.dataset.close !== undefined) button.closest("dialog").close();
  if (button.dataset.addRow) addRow(button);
  if (button.dataset.removeRow !== undefined) button.closest("[data-row]").remove();
  if (button.dataset.insert) insert(button);
});

// Lists of rows in a form: <button data-add-row="TEMPLATE"> puts a copy of the
// template's content before itself (or at the end of data-into).
function addRow(button) {
  const row = document.getElementById(button.dataset.addRow).content.cloneNode(true);
  const into = document.getElementById(button.dataset.into);
  into.append(row);
  const input = into.lastElementChild.querySelector("input, select");
  if (input) input.focus();
}

// <button data-insert="text" data-target="id"> puts an example into an input.
function insert(button) {
  const input = document.getElementById(button.dataset.target);
  input.value = button.dataset.insert;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
}

// <select data-submit> sends its form when something else is chosen.
document.addEventListener("change", (ev) => {
  if (ev.target.dataset.submit !== undefined) ev.target.form.requestSubmit();
});

// <tr data-href> leads somewhere as a whole; the link in it remains the way for
// the keyboard and for readers.
document.addEventListener("click", (ev) => {
  const row = ev.target.closest("[data-href]");
  if (!row || ev.target.closest("a, button, input, select, label, summary") || String(getSelection())) return;
  location.assign(row.dataset.href);
});

// Keys: "/" goes to the search, Escape closes the menu (dialogs close by
// themselves).
document.addEventListener("keydown", (ev) => {
  const typing = ev.target.closest && ev.target.closest("input, textarea, select, [contenteditable]");
  if (ev.key === "/" && !typing && !ev.ctrlKey && !ev.metaKey && !ev.altKey) {
    const search = document.querySelector("[data-search]");
    if (search) { ev.preventDefault(); search.focus(); search.select(); }
  }
  // In the search of a part of a form, Enter does not send the form.
  if (ev.key === "Enter" && ev.target.dataset && ev.target.dataset.find !== undefined) ev.preventDefault();
  if (ev.key === "Escape") {
    for (const button of document.querySelectorAll("[data-menu][aria-expanded=true]")) { toggleMenu(button, false); button.focus(); }
  }
});

showTheme();
follow();
const wrong = document.querySelector("[data-focus]");
if (wrong) wrong.focus();
