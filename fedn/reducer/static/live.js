// Keeps a page current. An event says that something happened; the server draws the page again, and every
// element that is marked data-live and has an id is put in place of the one that is there. Other scripts hear
// "fedn:event" for each event, and "fedn:redrawn" once the page is. While nobody answers a banner says since when,
// and body[data-away] tells the page's clocks to stand still.
"use strict";

{
  const LEAST_MS = 1000; // between two redraws, however many events come
  const CALM_MS = 15000; // without any event: times that are told as "ago" move on
  const TOLD_MS = 60000; // so long it is said that the reducer was started anew
  const RETRY_MS = 5000; // after the browser has given up on the stream, as it does on a refusal
  const GRACE_MS = 3000; // a stream that broke off may be back by then, and a page may come without it
  const UNANSWERED = "the reducer did not answer"; // as forms.js says it
  const { stream, login } = document.body.dataset;
  const still = "still" in document.body.dataset; // a page that says what went wrong: drawn once
  const renewed = "signed" in document.body.dataset ? "the reducer was started anew or you logged in again meanwhile" : "the reducer was started anew meanwhile";
  const link = document.getElementById("link");
  const banner = document.getElementById("away");
  const shared = "fedn-events " + stream; // another reducer may be under another path of this host
  const channel = new BroadcastChannel(shared);
  let wanted = false;
  let drawing = false;
  let lost = 0; // since when the stream is (Unix time in ms); 0 while it is there
  let away = false; // nobody answers a page either
  let anew = false;
  let drawn = 0;

  async function draw() {
    if (still) return;
    wanted = true;
    if (drawing) return;
    drawing = true;
    while (wanted) {
      wanted = false;
      try {
        const answer = await fetch(location.href, { headers: { "Fedn-Live": "1", Accept: "text/html" } });
        if (answer.redirected && new URL(answer.url).pathname === new URL(login, location).pathname) {
          return location.assign(login + "?next=" + encodeURIComponent(location.pathname + location.search));
        }
        if (answer.ok) swap(await answer.text());
        answers(answer.status < 500);
      } catch {
        answers(false); // the stream comes back by itself
      }
      drawn = Date.now();
      await new Promise((resolve) => setTimeout(resolve, LEAST_MS));
    }
    drawing = false;
  }

  function swap(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of fresh.querySelectorAll("[data-live][id]")) {
      const old = document.getElementById(part.id);
      if (!old || old.outerHTML === part.outerHTML || old.matches(":has(:is(input, select, textarea):focus, :active)")) continue;
      if (part.id === "state" && old.dataset.token !== part.dataset.token) {
        anew = true;
        setTimeout(() => { anew = false; say(); }, TOLD_MS);
        say();
      }
      for (const open of old.querySelectorAll("details[open][id]")) {
        part.querySelector("#" + CSS.escape(open.id))?.setAttribute("open", "");
      }
      const focused = old.contains(document.activeElement) && document.activeElement.id;
      const scrolled = [...old.querySelectorAll("[data-keep-scroll][id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
      patch(old, part);
      for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo(left, top);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    document.dispatchEvent(new CustomEvent("fedn:redrawn"));
  }

  // Makes ``old`` what ``part`` is. Whatever is the same stays where it is, so that a button beside a clock can be aimed at.
  function patch(old, part) {
    if (old.isEqualNode(part)) return;
    const parts = [...part.childNodes];
    if (!parts.length || parts.length !== old.childNodes.length || !old.cloneNode(false).isEqualNode(part.cloneNode(false))) return old.replaceWith(part);
    [...old.childNodes].forEach((child, place) => patch(child, parts[place]));
  }

  function say() {
    const words = away ? "no connection to the reducer; trying again" : lost ? "no event stream; drawn every few seconds" : anew ? "live; " + renewed : "live";
    if (link && link.textContent !== words) link.textContent = words;
    link?.classList.toggle("lost", away);
    document.body.toggleAttribute("data-away", away);
    if (!away) return banner?.replaceChildren();
    if (banner?.firstChild) return;
    const clock = new Date(lost).toLocaleTimeString("en-GB");
    const note = document.createElement("p");
    note.textContent = `No connection to the reducer since ${clock}; trying again. What is shown is from then.`;
    banner?.append(note);
  }

  // Whether somebody answers a page; that counts while the stream is lost.
  function answers(there) {
    if (!lost) return;
    away = !there;
    if (!away) forget();
    say();
  }

  // That nobody answered a button is over once somebody does. What was answered stays to be read.
  function forget() {
    for (const note of document.querySelectorAll(".outcome .alert-danger")) if (note.textContent.includes(UNANSWERED)) note.remove();
  }

  function lose(since) {
    if (lost) return;
    lost = since;
    if (still) return answers(false);
    draw(); // which finds out whether anybody answers
    setTimeout(() => { if (lost === since && drawn < since) answers(false); }, GRACE_MS);
  }

  // What came, here or in the tab that holds the stream.
  function heard({ kind, event }) {
    if (kind === "event") {
      document.dispatchEvent(new CustomEvent("fedn:event", { detail: event }));
      if (!document.hidden) draw(); // a tab that nobody sees is drawn once somebody does
    } else if (kind === "open") {
      lost = 0;
      away = false;
      forget();
      say();
      draw();
    } else {
      lose(event);
    }
  }

  function tell(message) {
    heard(message);
    channel.postMessage(message);
  }

  function follow() {
    const source = new EventSource(stream);
    source.onopen = () => tell({ kind: "open" });
    source.onmessage = ({ data }) => tell({ kind: "event", event: JSON.parse(data) });
    source.onerror = () => {
      tell({ kind: "lost", event: Date.now() });
      if (source.readyState !== EventSource.CLOSED) return;
      draw(); // which finds out whether this login has ended
      setTimeout(follow, RETRY_MS);
    };
  }

  channel.onmessage = ({ data }) => (data.kind === "hello" ? holding && channel.postMessage(lost ? { kind: "lost", event: lost } : { kind: "open" }) : heard(data));
  // Of all tabs one holds the stream and tells the others: browsers allow six connections to a server.
  let holding = false;
  const hold = () => { holding = true; follow(); return new Promise(() => {}); };
  if (navigator.locks) {
    navigator.locks.request(shared, hold);
    channel.postMessage({ kind: "hello" });
  } else {
    hold();
  }
  setInterval(() => { if (!document.hidden && Date.now() - drawn > CALM_MS) draw(); }, CALM_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) draw(); });
  document.addEventListener("fedn:draw", draw); // a script of the page has changed something
}
