// A model file on its way to be a seed: checked by the reducer, shown as what it is, kept if it is wanted.
// A file that is refused takes nothing away: what was shown before, and its name, stay.
"use strict";

{
  const { dropZone, send, fits, refuse, element, bytes } = window.fedn;
  const SHOWN = 200; // tensors; a table of all would be slow with thousands
  const TYPE = "application/octet-stream";
  const choose = document.getElementById("seed");
  const keep = document.getElementById("keep");
  const input = choose.elements.file;
  const button = keep.querySelector("[type=submit]");
  const named = keep.elements.name;
  let shown = null; // {file, digest, name} of what the lower form is about
  let written = false; // whether the name is somebody's own

  choose.hidden = false;
  dropZone(choose.querySelector(".drop"), input);
  input.addEventListener("change", () => { if (input.files.length) check(input.files[0]); });
  choose.addEventListener("submit", (event) => event.preventDefault());
  named.addEventListener("input", () => { written = named.value !== ""; });
  keep.addEventListener("submit", (event) => { event.preventDefault(); if (!button.disabled) take(); });

  async function check(file) {
    const place = outcome(choose);
    place.replaceChildren();
    if (!fits(file, Number(choose.dataset.limit), "a model", "an operator can raise max_model_bytes of the reducer", place)) return again();
    busy(true);
    const came = await send(choose.dataset.check, file, TYPE, choose.querySelector(".under-way"), () => place.replaceChildren("being checked"));
    busy(false);
    again();
    if (came.cancelled) return place.replaceChildren("cancelled");
    if (came.status !== 200) {
      refuse(place, file, came.answer);
      if (shown) place.firstChild.append(element("br"), `What was in ${shown.file.name} is still below.`);
      return;
    }
    place.replaceChildren(`${file.name} is a model that a session can begin with. Look at it below; nothing is kept yet.`);
    show(file, came.answer);
  }

  async function take() {
    const place = outcome(keep);
    place.replaceChildren();
    busy(true);
    const address = `${keep.dataset.keep}?name=${encodeURIComponent(named.value.trim())}`;
    const came = await send(address, shown.file, TYPE, keep.querySelector(".under-way"), () => place.replaceChildren("being checked and stored"));
    busy(false);
    if (came.cancelled) return place.replaceChildren("cancelled; nothing is kept");
    if (came.status !== 201) return refuse(place, shown.file, came.answer);
    outcome(choose).replaceChildren();
    written = false;
    const { name, digest, known } = came.answer;
    const before = known && shown.name && shown.name !== name ? `; it was called ${shown.name} before` : "";
    const told = known ? ` was a seed model already, and is the newest now${before}.` : " is a seed model now.";
    const words = element("div", { class: "alert alert-success" }, element("p", {}, element("strong", {}, name), told));
    shown.name = name;
    const links = element("div", { class: "actions" });
    if (keep.dataset.start) links.append(element("a", { class: "btn btn-primary", href: `${keep.dataset.start}?model=${digest}` }, "Start a session with it"));
    links.append(element("a", { class: "btn btn-outline-secondary", href: keep.dataset.model + digest }, "Look at it"));
    words.append(links);
    place.replaceChildren(words);
    links.firstChild.focus();
  }

  function show(file, { digest, known, name, contents, tensors, next }) {
    shown = { file, digest, name };
    outcome(keep).replaceChildren();
    const number = (count) => count.toLocaleString("en");
    put("file", file.name);
    for (const word of ["parameters", "averaged", "count"]) put(word, number(contents[word]));
    put("dtypes", Object.keys(contents.dtypes).join(", "));
    put("size", bytes(contents.size));
    put("digest", digest);
    if (!written) named.value = name || file.name.replace(/\.[^.]*$/, "").slice(0, 200);
    const link = element("a", { href: keep.dataset.model + digest }, "Look at it");
    const words = name ? `This very model is here already, as the seed “${name}”; kept again, it has the name below. ` : "These very bytes are here already, as a model of a session. ";
    put("known", words, link);
    slot("known").hidden = !known;
    const rows = tensors.slice(0, SHOWN).map((tensor) => element("tr", {},
      element("td", {}, element("code", {}, tensor.name)), element("td", {}, tensor.shape.join(" × ") || "one number"),
      element("td", {}, tensor.dtype), element("td", { class: "number" }, number(tensor.parameters))));
    keep.querySelector("tbody").replaceChildren(...rows);
    put("left", `And ${number(contents.count - rows.length)} more, which its page shows once it is kept.`);
    slot("left").hidden = next === null && tensors.length <= SHOWN;
    keep.hidden = false;
    keep.scrollIntoView({ block: "nearest" });
  }

  function slot(word) {
    return keep.querySelector(`[data-is=${word}]`);
  }

  function put(word, ...content) {
    slot(word).replaceChildren(...content);
  }

  function outcome(form) {
    return form.querySelector(":scope > .outcome");
  }

  // One thing at a time: while a file is on its way, neither another one nor the same again.
  function busy(now) {
    input.disabled = button.disabled = named.disabled = now;
  }

  // So that the very same file, once it is repaired, can be chosen again.
  function again() {
    input.value = "";
  }
}
