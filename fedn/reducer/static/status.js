// Keeps the page current: an event only says that something happened, the server draws it again.
"use strict";

const link = document.getElementById("link");
const { stream, fragment, login } = document.body.dataset;
const LEAST_MS = 500; // between two redraws, however many events come
const RETRY_MS = 5000; // after the browser has given up on the stream, as it does on a refusal

let wanted = false;
let drawing = false;

async function draw() {
  wanted = true;
  if (drawing) return;
  drawing = true;
  while (wanted) {
    wanted = false;
    try {
      const answer = await fetch(fragment);
      if (answer.status === 401 || answer.status === 403) return location.assign(login);
      if (answer.ok) swap(await answer.text());
    } catch {
      // The reducer is away; the stream says so and comes back by itself.
    }
    await new Promise((resolve) => setTimeout(resolve, LEAST_MS));
  }
  drawing = false;
}

// Part by part, so that what lies between them, such as a form half filled in, stays as it is.
function swap(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of [...fresh.body.children]) document.getElementById(part.id)?.replaceWith(part);
}

function follow() {
  const source = new EventSource(stream);
  source.onopen = () => { link.textContent = "live"; draw(); };
  source.onmessage = draw;
  source.onerror = () => {
    link.textContent = "no connection to the reducer; trying again";
    if (source.readyState !== EventSource.CLOSED) return;
    draw(); // which finds out whether this login has ended
    setTimeout(follow, RETRY_MS);
  };
}

follow();
