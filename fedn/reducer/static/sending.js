// Files on their way to the REST API: taken from a drop zone, sent as they are, with how much has gone.
"use strict";

{
  // Files dropped on the zone are as if chosen in its input; those dropped beside it do not replace the page.
  function dropZone(zone, input) {
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
    zone.addEventListener("dragover", () => zone.classList.add("over"));
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", ({ dataTransfer }) => {
      zone.classList.remove("over");
      if (input.disabled || !dataTransfer.files.length) return;
      const one = new DataTransfer();
      one.items.add(dataTransfer.files[0]);
      input.files = one.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  // The status and answer of the API, once it has come; or {cancelled: true}. `place` is an element of class
  // under-way, with a bar and a button that cancels; `sent` is called when all of it has gone.
  function send(address, file, type, place, sent) {
    const bar = place.querySelector("progress");
    const request = new XMLHttpRequest(); // fetch does not say how much has been sent
    request.open("POST", address);
    request.setRequestHeader("Content-Type", type);
    request.setRequestHeader("Fedn-Csrf", document.getElementById("state").dataset.token);
    request.upload.onprogress = ({ loaded, total }) => { bar.max = total; bar.value = loaded; };
    request.upload.onload = () => { bar.removeAttribute("value"); sent(); };
    place.querySelector("[name=cancel]").onclick = () => request.abort();
    bar.value = 0;
    place.hidden = false;
    return new Promise((resolve) => {
      request.onload = () => resolve(answered(request));
      request.onerror = () => resolve(failed("the file did not reach the reducer, or has changed meanwhile; choose it again when the page is live"));
      request.onabort = () => resolve({ cancelled: true });
      request.onloadend = () => { place.hidden = true; };
      request.send(file);
    });
  }

  function answered({ status, responseText }) {
    if (status === 401) location.assign(document.body.dataset.login);
    try {
      const answer = JSON.parse(responseText);
      if (answer.code === "stale_page") document.dispatchEvent(new CustomEvent("fedn:draw")); // the next try is fresh
      return { status, answer };
    } catch {
      return failed(`something between here and the reducer answered ${status}; try again`);
    }
  }

  function failed(error) {
    return { status: 599, answer: { error, details: {} } };
  }

  // Whether the file may be sent at all; else says so in `place`. What a form holds stays as it is.
  function fits(file, limit, what, remedy, place) {
    if (file.size <= limit) return true;
    refuse(place, file, { details: { problem: `has ${bytes(file.size)}, and ${what} may have ${bytes(limit)}`, remedy } });
    return false;
  }

  // The API's own words of what is wrong; where it is the file as a whole, by the file's name.
  function refuse(place, file, { error, details }) {
    const { field, problem, remedy } = details ?? {};
    const what = !field || field === "model" || field === "package" ? file.name : field;
    const words = element("p", {}, element("strong", {}, what), fedn.said(problem ?? error));
    if (remedy) words.append(element("br"), element("span", {}, remedy));
    words.className = "alert alert-danger";
    place.replaceChildren(words);
  }

  function element(name, attributes = {}, ...content) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...content); // as text, whatever is in it
    return made;
  }

  function bytes(count) {
    if (count < 1024) return `${count} bytes`;
    const step = Math.min(4, Math.floor(Math.log2(count) / 10));
    return `${(count / 2 ** (10 * step)).toFixed(1)} ${["", "KiB", "MiB", "GiB", "TiB"][step]}`;
  }

  window.fedn = Object.assign(window.fedn ?? {}, { dropZone, send, fits, refuse, element, bytes });
}
