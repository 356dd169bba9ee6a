// Keeps a page current. An event says that something happened; the server draws the page again, and every
// element that is marked data-live and has an id is put in place of the one that is there. Other scripts hear
// "fedn:event" for each event, and "fedn:redrawn" once the page is.
"use strict";

{
  const LEAST_MS = 1000; // between two redraws, however many events come
  const CALM_MS = 15000; // without any event: times that are told as "ago" move on
  const TOLD_MS = 60000; // so long it is said that the reducer was started anew
  const RETRY_MS = 5000; // after the browser has given up on the stream, as it does on a refusal
  const { stream, login } = document.body.dataset;
  const link = document.getElementById("link");
  const shared = "fedn-events " + stream; // another reducer may be under another path of this host
  const channel = new BroadcastChannel(shared);
  let wanted = false;
  let drawing = false;
  let lost = false;
  let anew = false;
  let drawn = 0;

  async function draw() {
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
      } catch {
        // The reducer is away; the stream says so and comes back by itself.
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
      old.replaceWith(part);
      for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo(left, top);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    document.dispatchEvent(new CustomEvent("fedn:redrawn"));
  }

  function say() {
    const words = lost ? "no connection to the reducer; trying again"
      : anew ? "live; the reducer was started anew or you logged in again meanwhile" : "live";
    if (link && link.textContent !== words) link.textContent = words;
    link?.classList.toggle("lost", lost);
  }

  // What came, here or in the tab that holds the stream.
  function heard({ kind, event }) {
    if (kind === "event") {
      document.dispatchEvent(new CustomEvent("fedn:event", { detail: event }));
      if (!document.hidden) draw(); // a tab that nobody sees is drawn once somebody does
    } else if (kind === "open") {
      lost = false;
      say();
      draw();
    } else {
      lost = true;
      say();
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
      tell({ kind: "lost" });
      if (source.readyState !== EventSource.CLOSED) return;
      draw(); // which finds out whether this login has ended
      setTimeout(follow, RETRY_MS);
    };
  }

  channel.onmessage = ({ data }) => (data.kind === "hello" ? holding && channel.postMessage({ kind: lost ? "lost" : "open" }) : heard(data));
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
