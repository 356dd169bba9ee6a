// Looks the plan over while it is being filled in: errors beside their fields, and what will happen.
"use strict";

{
  const form = document.getElementById("plan");
  const preview = document.getElementById("preview");
  const CALM_MS = 300; // after the last key
  let timer = 0;
  let asked = 0;
  let again = false;

  // Only what people have touched is marked as wrong while they write; all of it once they press Start.
  const touched = new Set();

  async function check() {
    const mine = ++asked;
    const plan = {};
    const wrong = [];
    for (const field of form.querySelectorAll("[data-into=plan]")) {
      try {
        const value = fedn.typed(field);
        if (value !== undefined) plan[field.name] = value;
      } catch (error) {
        wrong.push({ field: error.field, problem: error.message });
      }
    }
    const name = form.elements.namedItem("name").value;
    const { status, answer } = await fedn.ask("POST", form.dataset.check, { plan, name });
    if (mine !== asked) return;
    again = status >= 500 || answer.code === "stale_page"; // the reducer is away, or was
    if (again) return;
    for (const error of answer.errors ?? []) {
      if (!wrong.some(({ field }) => field === error.field)) wrong.push(error);
    }
    show(wrong, answer.preview ?? [], status >= 400 && !answer.errors ? answer.error : "");
  }

  function show(wrong, sentences, refused) {
    const words = new Map(wrong.map((error) => [error.field.split(".")[0], fedn.complaint(error)]));
    for (const field of form.querySelectorAll("[data-into=plan]")) {
      if (touched.has(field.name) || field.classList.contains("is-invalid")) fedn.wrong(field, words.get(field.name) ?? "");
    }
    const lines = refused ? [refused] : wrong.length
      ? [`${wrong.length === 1 ? "One field needs" : wrong.length + " fields need"} a change: ${[...words.keys()].map((name) => name.replaceAll("_", " ")).join(", ")}.`]
      : sentences;
    preview.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    preview.classList.toggle("bad", wrong.length > 0 || refused !== "");
  }

  // What the chosen package lets one set, and to what it is set otherwise.
  async function hyperparameters() {
    const { config, package: chosen } = form.elements;
    const digest = chosen.value;
    const known = document.getElementById("config-known");
    if (!digest) {
      config.placeholder = "";
      return known.replaceChildren("Without a package the names are those of the clients' own apps.");
    }
    const { status, answer } = await fedn.ask("GET", form.dataset.packages + digest);
    if (digest !== chosen.value || status !== 200) return;
    const defaults = Object.entries(answer.manifest.hyperparameters ?? {});
    config.placeholder = defaults.length ? JSON.stringify(Object.fromEntries(defaults.slice(0, 2))) : "";
    const words = defaults.flatMap(([name, value]) => [", ", code(name), " = ", code(JSON.stringify(value))]).slice(1);
    known.replaceChildren(`The package ${answer.name} ${words.length ? "has these, with their defaults: " : "has none."}`, ...words);
  }

  function code(text) {
    return Object.assign(document.createElement("code"), { textContent: text });
  }

  if (form) {
    form.elements.package.addEventListener("change", hyperparameters);
    hyperparameters();
    form.addEventListener("input", ({ target }) => {
      touched.add(target.name);
      clearTimeout(timer);
      timer = setTimeout(check, CALM_MS);
    });
    document.addEventListener("fedn:event", ({ detail }) => { if (/client|combiner|network|package|session/.test(detail.event)) check(); });
    document.addEventListener("fedn:redrawn", () => { if (again) check(); });
    // A field that is wrong must not stay hidden.
    new MutationObserver(() => form.querySelectorAll("details:has(.is-invalid)").forEach((one) => { one.open = true; }))
      .observe(form, { subtree: true, attributeFilter: ["class"] });
    check();
  }
}
