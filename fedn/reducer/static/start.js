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
        const value = read(field);
        if (value !== undefined) plan[field.name] = value;
      } catch (error) {
        wrong.push({ field: field.name, problem: error.message });
      }
    }
    const { status, answer } = await fedn.ask("POST", form.dataset.check, { plan });
    if (mine !== asked) return;
    again = status >= 500 || answer.code === "stale_page"; // the reducer is away, or was
    if (again) return;
    for (const error of answer.errors ?? []) {
      if (!wrong.some(({ field }) => field === error.field)) wrong.push(error);
    }
    show(wrong, answer.preview ?? [], status >= 400 && !answer.errors ? answer.error : "");
  }

  function read(field) {
    if (field.type === "checkbox") return field.checked;
    const text = field.value.trim();
    if (text === "") return undefined;
    if (field.dataset.type === "json") {
      try {
        return JSON.parse(text);
      } catch {
        throw new Error('is not JSON; write {"name": value, …}');
      }
    }
    if (field.dataset.type === "integer" || field.dataset.type === "number") {
      if (Number.isNaN(Number(text))) throw new Error(`${text} is not a number`);
      return Number(text);
    }
    return field.value;
  }

  function show(wrong, sentences, refused) {
    const words = new Map(wrong.map(({ field, problem, remedy }) => [field.split(".")[0], problem + (remedy ? " — " + remedy : "")]));
    for (const field of form.querySelectorAll("[data-into=plan]")) {
      if (touched.has(field.name) || field.classList.contains("is-invalid")) fedn.wrong(field, words.get(field.name) ?? "");
    }
    const lines = refused ? [refused] : wrong.length
      ? [`${wrong.length === 1 ? "One field needs" : wrong.length + " fields need"} a change: ${[...words.keys()].map((name) => name.replaceAll("_", " ")).join(", ")}.`]
      : sentences;
    preview.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    preview.classList.toggle("bad", wrong.length > 0 || refused !== "");
  }

  if (form) {
    form.addEventListener("input", ({ target }) => {
      touched.add(target.name);
      clearTimeout(timer);
      timer = setTimeout(check, CALM_MS);
    });
    document.addEventListener("fedn:event", ({ detail }) => { if (/client|combiner|network|package/.test(detail.event)) check(); });
    document.addEventListener("fedn:redrawn", () => { if (again) check(); });
    // A field that is wrong must not stay hidden.
    new MutationObserver(() => form.querySelectorAll("details:has(.is-invalid)").forEach((one) => { one.open = true; }))
      .observe(form, { subtree: true, attributeFilter: ["class"] });
    check();
  }
}
