// Sends a package's archive to the REST API as it is, and says in words what came of it.
// The package list is drawn anew by live.js: the reducer tells of an upload as of all that happens.
"use strict";

{
  const { dropZone, send, fits, refuse, element } = window.fedn;
  const form = document.getElementById("upload");
  const { archive } = form.elements;
  const submit = form.querySelector("[type=submit]");
  const outcome = form.querySelector(":scope > .outcome");

  form.hidden = false;
  dropZone(form.querySelector(".drop"), archive);
  archive.addEventListener("change", () => {
    outcome.replaceChildren();
    if (archive.files.length) plausible(archive.files[0]);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const file = archive.files[0];
    if (submit.disabled || !small(file)) return;
    archive.disabled = submit.disabled = true;
    outcome.replaceChildren();
    const came = await send(form.action, file, "application/x-tar", form.querySelector(".under-way"), () => outcome.replaceChildren("being checked"));
    archive.disabled = submit.disabled = false;
    if (came.cancelled) outcome.replaceChildren("cancelled; nothing is kept");
    else if (came.status !== 201) refuse(outcome, file, came.answer);
    else uploaded(came.answer);
  });

  // What is plain before it is sent. A name decides nothing: the reducer looks at what is in the file.
  function plausible(file) {
    if (!small(file) || /\.tar$/i.test(file.name)) return;
    refuse(outcome, file, { details: { problem: "is not called .tar, as packages are", remedy: "choose what fedn package create has made" } });
  }

  function small(file) {
    return fits(file, Number(form.dataset.limit), "a package", "leave data and results out of it, with a .fednignore", outcome);
  }

  function uploaded({ name, digest }) {
    form.reset();
    const words = element("p", { class: "alert alert-success" }, element("a", { href: form.dataset.package + digest }, name), " is here.");
    if (form.dataset.start) words.append(" ", element("a", { href: `${form.dataset.start}?package=${digest}` }, "Start a session with it"), ".");
    outcome.replaceChildren(words);
  }
}
