// The upload wizard: the file goes to the API as it is, with a bar that moves; without
// this script the form sends it itself.
"use strict";

function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

class Upload {
  constructor(form) {
    this.form = form;
    this.part = (name) => form.querySelector("[data-upload-" + name + "]");
    this.input = form.querySelector("input[type=file]");
    this.input.required = false; // a file can be dropped as well
    form.addEventListener("submit", (ev) => {
      ev.preventDefault();
      ev.stopImmediatePropagation();
      this.send(this.input.files[0]);
    });
    this.input.addEventListener("change", () => { if (this.input.files.length) this.send(this.input.files[0]); });
    this.part("cancel").addEventListener("click", () => this.request && this.request.abort());
    const drop = this.part("drop");
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (ev) => { ev.preventDefault(); drop.classList.add("over"); });
    }
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (ev) => { ev.preventDefault(); this.send(ev.dataTransfer.files[0]); });
    // A file that misses the field is not to replace the page.
    for (const name of ["dragover", "drop"]) window.addEventListener(name, (ev) => ev.preventDefault());
  }

  fail(text) {
    this.show(false);
    const box = this.part("error");
    box.querySelector("p").textContent = text;
    box.hidden = !text;
    this.input.value = "";
  }

  show(running) {
    this.part("progress").hidden = !running;
    this.part("drop").hidden = running;
    this.part("start").hidden = running;
    this.part("error").hidden = true;
  }

  send(file) {
    if (!file) { this.fail("Choose a file first."); return; }
    if (file.size === 0) { this.fail("The file is empty."); return; }
    this.show(true);
    this.part("name").textContent = file.name;
    const request = this.request = new XMLHttpRequest();
    const began = performance.now();
    request.upload.addEventListener("progress", (ev) => this.moved(ev.loaded, file.size, (performance.now() - began) / 1000));
    request.addEventListener("load", () => this.ended(request));
    request.addEventListener("error", () => this.fail("The connection to the server was lost; try again."));
    request.addEventListener("abort", () => this.fail("The upload was canceled."));
    request.open("POST", "/v1/uploads?file_name=" + encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(file);
    this.moved(0, file.size, 0);
  }

  moved(done, all, seconds) {
    const bar = this.part("bar");
    bar.max = all;
    bar.value = done;
    let words = bytes(done) + " of " + bytes(all);
    if (seconds > 0.5 && done > 0) words += ", " + bytes(done / seconds) + "/s";
    if (done >= all) words = "Checking the file…";
    this.part("words").textContent = words;
  }

  ended(request) {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch (e) { /* not from davit */ }
    if (request.status === 201 && answer.id) {
      location.assign(this.form.dataset.uploadNext + encodeURIComponent(answer.id));
      return;
    }
    this.fail(answer.detail || "The server refused the file (status " + request.status + ").");
  }
}

// Step 2 says at once when the typed version is not the file's.
function compareVersions(note) {
  const input = document.querySelector("input[name=version]");
  const compare = () => { note.hidden = input.value.trim() === "" || input.value.trim() === note.dataset.differs; };
  input.addEventListener("input", compare);
  compare();
}

for (const form of document.querySelectorAll("form[data-upload]")) new Upload(form);
for (const note of document.querySelectorAll("[data-differs]")) compareVersions(note);
