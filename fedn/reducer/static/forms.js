// Sends what people enter to the REST API as JSON, and shows its answer where it belongs.
//
//   <form data-api="/api/v1/…" data-say="Paused." data-done="/sessions/{session}" data-confirm="Really?">
//
// A field's data-type says what it is in JSON (integer, number, boolean, json; else text), data-into the object
// that it is put into. An empty field that is not required is left out. {words} in addresses are taken from the
// fields (data-api) or from the answer (data-done). Without data-done the page is drawn again.
"use strict";

{
  const root = document.body.dataset.root;

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-api]");
    if (!form) return;
    event.preventDefault();
    if (form.dataset.busy || (form.dataset.confirm && !(await agreed(form.dataset.confirm)))) return;
    forget(form);
    form.dataset.busy = "1";
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    try {
      await send(form);
    } finally {
      delete form.dataset.busy;
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  });

  async function send(form) {
    let body;
    try {
      body = entered(form);
    } catch ({ field, message }) {
      return refused(form, { error: message, details: { field, problem: message } });
    }
    const address = filled(form.dataset.api, Object.fromEntries(new FormData(form)));
    const { status, answer } = await ask(form.dataset.method ?? "POST", address, body);
    if (status >= 400) return refused(form, answer);
    form.dispatchEvent(new CustomEvent("fedn:done", { bubbles: true, detail: answer }));
    if (form.dataset.done) return location.assign(root + filled(form.dataset.done, answer));
    if (form.dataset.say) say(form, form.dataset.say, "success");
    document.dispatchEvent(new CustomEvent("fedn:draw"));
  }

  // The one way in which forms speak to the API. Answers {status, answer}; status 0 where nobody answered.
  async function ask(method, address, body) {
    const headers = { "Content-Type": "application/json", "Fedn-Csrf": document.getElementById("state").dataset.token };
    try {
      const came = await fetch(root + address, { method, headers, body: JSON.stringify(body) });
      if (came.status === 401) location.assign(document.body.dataset.login);
      const answer = await came.json();
      if (answer.code === "stale_page") document.dispatchEvent(new CustomEvent("fedn:draw")); // the next try is fresh
      return { status: came.status, answer };
    } catch {
      return { status: 599, answer: { error: "the reducer did not answer; nothing is known to be done. Try again when the page is live.", details: {} } };
    }
  }

  function entered(form) {
    const body = {};
    for (const field of form.elements) {
      if (!field.name || field.disabled || (field.type === "radio" && !field.checked)) continue;
      const value = typed(field);
      if (value === undefined) continue;
      const into = field.dataset.into ? (body[field.dataset.into] ??= {}) : body;
      into[field.name] = value;
    }
    return body;
  }

  // What a field says, as it is in JSON; undefined where it is left out. Throws {field, message}.
  function typed(field) {
    if (field.dataset.type === "boolean") return field.type === "checkbox" ? field.checked : field.value === "true";
    const text = field.value.trim();
    if (field.validity.badInput) throw { field: field.name, message: "is not a number" }; // its value is empty then
    if (text === "" && field.required) throw { field: field.name, message: "is empty" };
    if (text === "" && !("keepEmpty" in field.dataset)) return undefined;
    if (field.dataset.type === "integer" || field.dataset.type === "number") {
      const value = Number(text);
      if (Number.isNaN(value)) throw { field: field.name, message: `${text} is not a number` };
      return value;
    }
    if (field.dataset.type === "json") {
      try {
        return JSON.parse(text);
      } catch {
        throw { field: field.name, message: 'is not JSON; write {"name": value, …}' };
      }
    }
    return field.value;
  }

  function filled(address, values) {
    return address.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[name] ?? ""));
  }

  function refused(form, { error, details = {} }) {
    const field = details.field && form.elements.namedItem(details.field.split(".")[0]);
    if (!field || !field.classList) return say(form, error, "danger");
    wrong(field, complaint(details));
    field.focus();
  }

  // What is wrong with a field and what to do; of a part of it, such as config.epochs, with that part's name.
  function complaint({ field, problem, remedy }) {
    const part = field.split(".").slice(1).join(".");
    return (part ? part + said(problem) : problem) + (remedy ? " — " + remedy : "");
  }

  // A problem as it goes on behind a name: " is an image", but ": 3 is out of bounds".
  function said(problem) {
    const verb = /^(is|are|was|has|holds|begins|ends|changes|uses|needs|names|means|can't|may|must|does|did)\b/;
    return (verb.test(problem) ? " " : ": ") + problem;
  }

  // Marks one field as wrong, in words that screen readers connect with it. Empty words: it is right again.
  function wrong(field, words) {
    const id = (field.id || field.name) + "-wrong";
    let note = document.getElementById(id);
    if (!note) {
      note = document.createElement("div");
      note.id = id;
      note.className = "invalid-feedback";
      field.after(note);
    }
    note.replaceChildren(...coded(words));
    field.classList.toggle("is-invalid", words !== "");
    const others = (field.getAttribute("aria-describedby") ?? "").split(" ").filter((one) => one && one !== id);
    field.setAttribute("aria-describedby", [...others, id].join(" "));
    field.setAttribute("aria-invalid", words !== "");
  }

  // Words between `backticks` as code.
  function coded(text) {
    return text.split("`").map((part, at) => at % 2 ? Object.assign(document.createElement("code"), { textContent: part }) : part);
  }

  function forget(form) {
    for (const field of form.elements) if (field.classList.contains("is-invalid")) wrong(field, "");
    form.querySelector(".outcome")?.replaceChildren();
  }

  // A message that outlives a redraw of what is around the form.
  function say(form, words, kind) {
    let place = form.closest("[data-live]") ? null : form.querySelector(".outcome");
    place ??= document.getElementById("outcome") ?? made();
    const note = document.createElement("div");
    note.className = `alert alert-${kind} alert-dismissible`;
    note.setAttribute("role", kind === "danger" ? "alert" : "status");
    note.append(...coded(words));
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.dataset.bsDismiss = "alert";
    close.setAttribute("aria-label", "Close");
    note.append(close);
    place.replaceChildren(note);
  }

  function made() {
    const place = document.createElement("div");
    place.id = "outcome";
    place.className = "outcome";
    document.getElementById("content").prepend(place);
    return place;
  }

  function agreed(words) {
    const dialog = document.createElement("dialog");
    const text = document.createElement("p");
    text.id = "confirm-words";
    text.textContent = words;
    const form = document.createElement("form");
    form.method = "dialog";
    for (const [value, word, kind] of [["", "Cancel", "outline-secondary"], ["yes", "Yes", "danger"]]) {
      const button = document.createElement("button");
      button.value = value;
      button.textContent = word;
      button.className = `btn btn-${kind}`;
      form.append(button);
    }
    dialog.setAttribute("aria-labelledby", text.id);
    dialog.append(text, form);
    document.body.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    });
  }

  window.fedn = Object.assign(window.fedn ?? {}, { root, ask, say, typed, wrong, complaint, said, coded, filled });
}
