// The network's pages: a filter that works while one writes, buttons that copy, and tokens that are shown once.
"use strict";

{
  const CALM_MS = 250; // after the last key
  const filter = document.getElementById("filter");
  let timer = 0;

  if (filter) {
    filter.querySelector("button").hidden = true;
    filter.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
    filter.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, CALM_MS); });
  }

  function apply() {
    const words = filter.elements.q.value.trim();
    history.replaceState(null, "", location.pathname + (words ? "?q=" + encodeURIComponent(words) : ""));
    document.dispatchEvent(new CustomEvent("fedn:draw"));
  }

  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-copy]");
    if (button) copy(document.getElementById(button.dataset.copy), button);
  });

  // Of the form for a client only what its kind needs.
  const runs = document.getElementById("runs");
  function only() {
    for (const part of document.querySelectorAll("[data-only]")) part.hidden = !part.dataset.only.split(" ").includes(runs.value);
  }
  if (runs) {
    runs.addEventListener("change", () => {
      if (/^data\/client-\d+\./.test(runs.form.elements.data.value)) runs.form.elements.data.value = "";
      only();
    });
    only();
  }

  // Browsers lend the clipboard to secure pages alone; elsewhere the text is selected, for Ctrl-C.
  async function copy(element, button) {
    const word = (button.dataset.word ??= button.textContent);
    try {
      await navigator.clipboard.writeText(element.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(element);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => { button.textContent = word; }, 2000);
  }

  // A token is in this page's memory until it is left, and nowhere else.
  document.addEventListener("fedn:done", ({ target, detail }) => {
    const place = document.getElementById(target.dataset.shownIn ?? "");
    if (!place || !detail.text) return;
    const text = Object.assign(document.createElement("code"), { id: place.id + "-text", textContent: detail.text });
    const words = document.createElement("p");
    words.textContent = `Token ${detail.token}, for ${detail.name || "any name"} as ${detail.role}. It is shown this once:`;
    const shown = document.createElement("p");
    shown.append(text);
    const copying = made("button", "Copy the token");
    copying.type = "button";
    copying.dataset.copy = text.id;
    const actions = document.createElement("div");
    actions.className = "actions";
    actions.append(copying);
    if (place.dataset.file) {
      const link = made("a", "Download " + place.dataset.file);
      link.href = URL.createObjectURL(new Blob([detail.text + "\n"], { type: "text/plain" }));
      link.download = place.dataset.file;
      actions.append(link);
    }
    place.replaceChildren(words, shown, actions);
    place.hidden = false;
  });

  function made(kind, words) {
    return Object.assign(document.createElement(kind), { className: "btn btn-sm btn-outline-secondary", textContent: words });
  }
}
