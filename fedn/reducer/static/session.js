// The live page of a session: charts that grow, bars of the open round that move on.
"use strict";

{
  const charts = document.getElementById("charts");
  const session = charts.dataset.session;
  const api = `/api/v1/sessions/${encodeURIComponent(session)}`;
  const NEWS = new Set(["round_committed", "round_validated", "session_finished", "session_failed", "session_cancelled"]);
  const CALM_MS = 15000; // after which a missed event is made up for

  // --- metrics ---------------------------------------------------------------------------------------

  const metric = document.getElementById("metric");
  let curve = newCurve({});

  function newCurve(query) {
    return fedn.series(`${api}/chart`, query, fedn.band, drawCurve);
  }

  function drawCurve(from) {
    if (from !== curve) return; // another one was chosen meanwhile
    const { names, kind, metric: name } = from.about;
    offer(names, kind, name);
    metric.closest(".pick").hidden = metric.options.length === 0;
    if (!seen("curve", from.points.length > 0)) return;
    const words = fedn.words(kind, name);
    const rows = from.points.map((point) => [point.round, point.mean, point.low, point.high, point.clients]);
    fedn.chart(document.getElementById("curve"), fedn.lines(from.points, words, fedn.colours()[0], true),
      { xaxis: { title: { text: "round" }, rangemode: "tozero" }, yaxis: { title: { text: fedn.escaped(words) } } },
      { name: `${session}-${kind}-${name}`, columns: ["round", "mean", "least", "most", "clients"], rows });
  }

  function offer(names, kind, name) {
    const wanted = ["validate", "train"].flatMap((one) => (names[one] ?? []).map((of) => [one, of]));
    if (metric.options.length === wanted.length) return;
    const chosen = metric.value || `${kind}/${name}`;
    metric.replaceChildren(...wanted.map(([one, of]) => new Option(fedn.words(one, of), `${one}/${of}`)));
    metric.value = chosen;
  }

  metric.addEventListener("change", () => {
    const at = metric.value.indexOf("/");
    curve = newCurve({ kind: metric.value.slice(0, at), metric: metric.value.slice(at + 1) });
    curve.refresh();
  });

  // --- times -----------------------------------------------------------------------------------------

  const laps = document.getElementById("laps");
  const WORDS = {
    clients: "clients at work", reducing: "reducing", committing: "committing", validating: "validating, beside",
    waiting: "waiting", training: "training", queued: "in the queue", uploading: "uploading",
  };
  const COLOURS = { // those of the bars above, where they say the same
    clients: "#3b7dd8", reducing: "#d9822b", committing: "#2f9e62", validating: "#b455b6",
    waiting: "#8a94a3", training: "#3b7dd8", queued: "#b455b6", uploading: "#2aa0a8",
  };
  const times = fedn.series(`${api}/chart/times`, {}, ({ phases, laps: of }, index) => ({
    phases: Object.fromEntries(Object.entries(phases).map(([phase, values]) => [phase, values[index]])),
    laps: Object.fromEntries(Object.entries(of).map(([lap, values]) => [lap, values[index]])),
  }), drawTimes);

  function drawTimes() {
    const which = laps.value;
    const timed = times.points.filter((point) => Object.values(point[which]).some((value) => value !== null));
    laps.closest(".pick").hidden = times.points.length === 0;
    if (!seen("times", timed.length > 0)) return;
    const parts = Object.keys(WORDS).filter((part) => timed.some((point) => part in point[which]));
    const shown = fedn.bars(timed);
    const x = shown.map(({ middle }) => middle);
    const customdata = shown.map(({ said }) => said);
    const traces = parts.map((part) => {
      const y = shown.map(({ group }) => fedn.average(group.map((point) => point[which][part])));
      const hovertemplate = `%{customdata}: %{y:.3~f} s<extra>${WORDS[part]}</extra>`;
      // What runs beside the next round adds nothing to how long this one takes.
      return part === "validating" ? { x, y, customdata, name: WORDS[part], mode: "lines", line: { width: 1.5, dash: "dot", color: COLOURS[part] }, hovertemplate }
        : { x, y, customdata, name: WORDS[part], type: "bar", marker: { color: COLOURS[part] }, hovertemplate };
    });
    fedn.chart(document.getElementById("times"), traces,
      { barmode: "stack", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, bargap: 0.15, xaxis: { title: { text: "round" }, tickformat: "d" }, yaxis: { title: { text: "seconds" }, rangemode: "tozero" } },
      { name: `${session}-seconds-${which}`, columns: ["round", ...parts], rows: timed.map((point) => [point.round, ...parts.map((part) => point[which][part] ?? "")]) });
  }

  laps.addEventListener("change", drawTimes);

  function seen(id, there) {
    document.getElementById(`${id}-empty`).hidden = there;
    document.getElementById(id).hidden = !there;
    return there;
  }

  // --- keeping current -------------------------------------------------------------------------------

  let news = false;
  let fetched = 0;

  function refresh() {
    news = false;
    fetched = Date.now();
    return Promise.all([curve.refresh(), times.refresh()]);
  }

  document.addEventListener("fedn:event", ({ detail }) => {
    if (detail.session === session && NEWS.has(detail.event)) news = true;
  });
  document.addEventListener("fedn:redrawn", () => {
    tick();
    if (news || Date.now() - fetched > CALM_MS) refresh();
  });
  const begun = document.getElementById("people")?.querySelector("p.faint") ? true : false;
  refresh().then(() => { if (begun) document.dispatchEvent(new CustomEvent("fedn:draw")); }); // now all is read

  // --- the open round --------------------------------------------------------------------------------

  function duration(seconds) {
    if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const whole = Math.round(seconds);
    for (const [unit, name, less, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
      if (whole >= unit) {
        const rest = Math.floor((whole % unit) / less);
        return `${Math.floor(whole / unit)} ${name}` + (rest ? ` ${rest} ${small}` : "");
      }
    }
    return `${whole} s`;
  }

  let ahead = 0; // how far the server's clock is ahead of this one
  let told = null; // the bars that it was learned from

  function tick() {
    const lanes = document.getElementById("lanes");
    if (!lanes || "away" in document.body.dataset) return; // what nobody tells of is not made up
    if (lanes !== told) {
      ahead = Number(lanes.dataset.now) - Date.now() / 1000;
      told = lanes;
    }
    const now = Date.now() / 1000 + ahead;
    const opened = Number(lanes.dataset.opened);
    const span = Math.max(now - opened, 1);
    const share = (seconds) => `${Math.min(100, (100 * Math.max(0, seconds)) / span).toFixed(2)}%`;
    for (const clock of document.querySelectorAll("[data-clock]")) clock.textContent = duration(now - Number(clock.dataset.clock));
    for (const lane of lanes.querySelectorAll(".lane")) {
      const since = Number(lane.dataset.since) - opened;
      const works = "works" in lane.dataset;
      lane.querySelector(".before")?.setAttribute("width", share(since));
      const lap = lane.querySelector(".lap");
      lap.setAttribute("x", works ? share(since) : "0%");
      lap.setAttribute("width", share(works ? now - opened - since : Math.max(since, span / 250)));
      lane.querySelector(".took").textContent = duration(works ? now - opened - since : since);
      const usual = lane.querySelector(".usual");
      for (const end of usual ? ["x1", "x2"] : []) usual.setAttribute(end, share(Number(lanes.dataset.usual)));
    }
  }

  setInterval(() => { if (!document.hidden) tick(); }, 500);
  tick();
}
