// Curves of several sessions in one chart; what is chosen is in the page's address.
"use strict";

{
  const form = document.getElementById("plot");
  const metric = document.getElementById("metric");
  const CALM_MS = 3000; // between two looks for what is new
  const asked = new URLSearchParams(location.search);
  let wanted = asked.get("metric") ? `${asked.get("kind") || "validate"}/${asked.get("metric")}` : "";
  let curves = new Map(); // session -> its series, of the metric that is chosen
  const names = new Map(); // session -> its metrics by kind
  let fetched = 0;

  const boxes = () => [...form.querySelectorAll("input[name=session]")];
  const chosen = () => boxes().filter(({ checked }) => checked);

  async function draw() {
    const most = Number(form.dataset.most);
    const full = chosen().length >= most;
    for (const box of boxes()) box.disabled = full && !box.checked;
    document.getElementById("chosen").textContent = full ? `${most} are chosen; more would be hard to tell apart.` : "";
    for (const session of curves.keys()) if (!chosen().some(({ value }) => value === session)) curves.delete(session);
    fetched = Date.now();
    await fetchAll();
    if (!wanted) {
      wanted = usual();
      curves = new Map(); // each session had said what is usual with itself
      if (wanted) await fetchAll();
    }
    show();
  }

  async function fetchAll() {
    for (const { value } of chosen()) {
      if (!curves.has(value)) curves.set(value, made(value));
      await curves.get(value)?.refresh();
    }
  }

  // What clients say of a model is more telling than what they say of their training.
  function usual() {
    const said = [...curves.values()].map(({ about }) => about).filter((about) => about?.metric);
    const first = said.find(({ kind }) => kind === "validate") ?? said[0];
    return first ? `${first.kind}/${first.metric}` : "";
  }

  function made(session) {
    const at = wanted.indexOf("/");
    const query = wanted ? { kind: wanted.slice(0, at), metric: wanted.slice(at + 1) } : {};
    return fedn.series(`/api/v1/sessions/${encodeURIComponent(session)}/chart`, query, fedn.band, ({ about }) => {
      names.set(session, about.names);
      if (wanted) show();
    });
  }

  function offer() {
    const known = new Set();
    for (const { value } of chosen()) {
      for (const kind of ["validate", "train"]) for (const name of names.get(value)?.[kind] ?? []) known.add(`${kind}/${name}`);
    }
    const all = [...known].sort((one, other) => one.startsWith("train/") - other.startsWith("train/") || one.localeCompare(other));
    if (all.join() === [...metric.options].map(({ value }) => value).join() && metric.value === wanted) return;
    metric.replaceChildren(...all.map((one) => new Option(words(one), one, false, one === wanted)));
  }

  const words = (one) => fedn.words(one.slice(0, one.indexOf("/")), one.slice(one.indexOf("/") + 1));

  function show() {
    offer();
    const shown = chosen().filter(({ value }) => curves.get(value)?.points.length);
    const there = shown.length > 0;
    document.getElementById("compared-empty").hidden = there;
    document.getElementById("compared").hidden = !there;
    const colours = fedn.colours();
    const places = boxes().map(({ value }) => value); // a session keeps its colour
    const traces = shown.flatMap(({ value, dataset }) =>
      fedn.lines(curves.get(value).points, dataset.name, colours[places.indexOf(value) % colours.length], shown.length === 1));
    const rows = shown.flatMap(({ value, dataset }) =>
      curves.get(value).points.map((point) => [value, dataset.name, point.round, point.mean, point.low, point.high, point.clients]));
    if (there) {
      fedn.chart(document.getElementById("compared"), traces,
        { xaxis: { title: { text: "round" }, rangemode: "tozero" }, yaxis: { title: { text: fedn.escaped(words(wanted)) } } },
        { name: wanted.replace("/", "-"), columns: ["session", "name", "round", "mean", "least", "most", "clients"], rows });
    }
    keep();
  }

  function keep() {
    const query = new URLSearchParams(chosen().map(({ value }) => ["session", value]));
    if (wanted) {
      query.set("kind", wanted.slice(0, wanted.indexOf("/")));
      query.set("metric", wanted.slice(wanted.indexOf("/") + 1));
    }
    history.replaceState(null, "", `?${query}`);
  }

  if (form) {
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => {
      if (target === metric) {
        wanted = metric.value;
        curves = new Map();
      }
      draw();
    });
    document.addEventListener("fedn:event", ({ detail }) => {
      if (curves.has(detail.session) && detail.event.startsWith("round_") && Date.now() - fetched > CALM_MS) draw();
    });
    draw();
  }
}
