// Verifies a session's trail: asks the reducer to read every record and model again, and says what it found.
"use strict";

{
  const button = document.getElementById("verify");
  const outcome = document.getElementById("verified");
  button.addEventListener("click", async () => {
    button.disabled = true;
    outcome.replaceChildren("Every record and every model is read again. That takes a while with large ones.");
    const { status, answer } = await window.fedn.ask("GET", button.dataset.address);
    button.disabled = false;
    if (status >= 400) return outcome.replaceChildren(element("p", "alert alert-danger", answer.error));
    outcome.replaceChildren(...(answer.ok ? whole(answer) : broken(answer)));
  });

  function whole({ rounds, models, head, notes }) {
    const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
    const whose = (of) => "the beginning's" + (of < 1 ? "" : ` and ${of.toLocaleString("en")} ${of === 1 ? "round's" : "rounds'"}`);
    return [
      element("p", "alert alert-success", `The trail is whole: ${count(rounds, "record")} (${whose(rounds - 1)}) in one chain, and ${count(models, "model")} whose bytes have the digests that the records say.`),
      ...notes.map((note) => element("p", "", note)),
      ...pin(head),
    ];
  }

  function broken({ problems, notes, head }) {
    const list = element("ul", "told");
    const shown = problems.slice(0, 100);
    list.append(...shown.map((problem) => element("li", "", problem)));
    const words = element("p", "alert alert-danger", `The trail is not whole: ${problems.length.toLocaleString("en")} ${problems.length === 1 ? "problem" : "problems"}.`);
    const rest = problems.length > shown.length ? [element("p", "faint", `And ${problems.length - shown.length} more, which fedn trail verify lists.`)] : [];
    return [words, list, ...rest, ...notes.map((note) => element("p", "", note)), ...pin(head)];
  }

  function pin(head) {
    return [
      element("p", "faint mb-1", "The head's digest. Note it elsewhere: a trail that somebody wrote anew from its beginning has another one."),
      element("p", "mb-0", element("code", "digest-whole", head)),
    ];
  }

  function element(name, kind, content) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (content !== undefined) made.append(content);
    return made;
  }
}
