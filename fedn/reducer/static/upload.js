// Sends a package's archive to the REST API as it is, and says in words what came of it.
// The package list is drawn anew by live.js: the reducer tells of an upload as of all that happens.
"use strict";

{
  const form = document.getElementById("upload");
  const { archive, cancel } = form.elements;
  const submit = form.querySelector("[type=submit]");
  const bar = form.querySelector("progress");
  const outcome = form.querySelector(".outcome");
  const limit = Number(form.dataset.limit);

  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const file = archive.files[0];
    if (file.size <= limit) return send(file);
    const [size, most] = [file.size, limit].map((bytes) => (bytes / 2 ** 20).toFixed(1) + " MiB");
    refused(file.name, `has ${size}, and a package may have ${most}`,
            "leave data and results out of it, with a .fednignore");
  });

  function send(file) {
    const request = new XMLHttpRequest(); // fetch does not say how much has been sent
    request.open("POST", form.action);
    request.setRequestHeader("Content-Type", "application/x-tar");
    request.setRequestHeader("Fedn-Csrf", document.getElementById("state").dataset.token);
    request.upload.onprogress = ({ loaded, total }) => { bar.max = total; bar.value = loaded; };
    request.upload.onload = () => { bar.removeAttribute("value"); say("being checked"); };
    request.onload = () => answered(request.status, request.responseText);
    request.onerror = () => refused(file.name, "did not reach the reducer", "try again when the page is live");
    request.onabort = () => say("cancelled; nothing is kept");
    request.onloadend = () => busy(false);
    cancel.onclick = () => request.abort();
    busy(true);
    say("");
    request.send(file);
  }

  function busy(now) {
    archive.disabled = submit.disabled = now;
    cancel.hidden = bar.hidden = !now;
  }

  function answered(status, text) {
    if (status === 401) return location.assign(document.body.dataset.login);
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      return refused("upload", `something between here and the reducer answered ${status}`, "try again");
    }
    if (status === 201) return uploaded(answer);
    const { field, problem, remedy } = answer.details;
    if (field) refused(field, problem, remedy);
    else refused("upload", answer.error);
  }

  function uploaded({ name, digest }) {
    form.reset();
    say(`${name} is here. Start a session with it: `, element("code", `fedn session start --package ${digest}`));
  }

  function refused(field, problem, remedy = "") {
    const words = element("p", element("strong", field), `: ${problem}`);
    if (remedy) words.append(element("br"), element("span", remedy));
    words.className = "alert alert-danger";
    say(words);
  }

  function say(...words) {
    outcome.replaceChildren(...words);
  }

  function element(name, ...content) {
    const made = document.createElement(name);
    made.append(...content); // as text, whatever is in it
    return made;
  }
}
