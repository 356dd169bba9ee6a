// Numbers by round from the REST API, fetched page by page and kept current, and drawn so that a thousand
// rounds are as quick as ten.
//
//   const accuracy = fedn.series(`/api/v1/sessions/${id}/chart`, { kind: "validate", metric: "accuracy" }, draw);
//   await accuracy.refresh();   // draw(accuracy) is called while pages come, and at the end
"use strict";

{
  const AGAIN = 4; // of the newest rounds clients may still report
  const PAUSE_MS = 50; // while the server still reads what is stored
  const MOST_POINTS = 500;
  const MOST_BARS = 100;

  // points: [{round, …}] by round, each as pick(answer, index) makes it; about: the newest answer.
  function series(path, query, pick, draw) {
    const kept = new Map();
    const self = { about: null, points: [], refresh };
    let busy = null;
    let again = false;

    function refresh() {
      if (busy) again = true;
      busy ??= fetched().finally(() => {
        busy = null;
        if (again) { again = false; refresh(); }
      });
      return busy;
    }

    async function fetched() {
      let drawn = 0;
      let after = Math.max(-1, (self.points.at(-1)?.round ?? -1) - AGAIN);
      while (after !== null) {
        const { status, answer } = await fedn.ask("GET", `${path}?${new URLSearchParams({ ...query, after })}`);
        if (status >= 400) return;
        self.about = answer;
        answer.rounds.forEach((round, index) => kept.set(round, { round, ...pick(answer, index) }));
        self.points = [...kept.values()].sort((one, other) => one.round - other.round);
        // A long session comes in many pages; each drawing is of half as many more rounds than the last.
        if (answer.next === null || self.points.length > 1.5 * drawn) {
          drawn = self.points.length;
          draw(self);
        }
        if (answer.next === after) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        after = answer.next;
      }
    }

    return self;
  }

  const band = (answer, index) => ({
    mean: answer.mean[index], low: answer.low[index], high: answer.high[index], clients: answer.clients[index],
  });

  // Groups of neighbours, so that at most `most` are left.
  function groups(points, most) {
    const size = Math.ceil(points.length / most) || 1;
    const made = [];
    for (let first = 0; first < points.length; first += size) made.push(points.slice(first, first + size));
    return made;
  }

  const average = (values) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  };

  // One line for each point, or group of points: the mean, and the least and most of the group.
  function thinned(points) {
    return groups(points, MOST_POINTS).map((group) => ({
      round: group.at(-1).round,
      mean: average(group.map(({ mean }) => mean)),
      low: Math.min(...group.map(({ low }) => low)),
      high: Math.max(...group.map(({ high }) => high)),
    }));
  }

  function faded(colour) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgba(${red},${green},${blue},0.16)`;
  }

  // The traces of a curve; with its band from the least to the most of all clients if wanted.
  function lines(points, name, colour, banded) {
    const shown = thinned(points);
    const x = shown.map(({ round }) => round);
    const mean = {
      x, y: shown.map(({ mean }) => mean), name: escaped(name), line: { color: colour, width: 2.5 },
      mode: shown.length < 30 ? "lines+markers" : "lines", hovertemplate: `round %{x}: %{y:.4~f}<extra>${escaped(name)}</extra>`,
    };
    if (!banded) return [mean];
    const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
    return [
      { ...edge, y: shown.map(({ low }) => low), showlegend: false },
      { ...edge, y: shown.map(({ high }) => high), fill: "tonexty", fillcolor: faded(colour), name: "least to most of the clients" },
      mean,
    ];
  }

  // Plotly takes some HTML in texts; names of metrics and sessions are people's.
  function escaped(text) {
    return text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]).replaceAll("%{", "%&#123;");
  }

  function bars(points) {
    return groups(points, MOST_BARS).map((group) => ({
      middle: (group[0].round + group.at(-1).round) / 2,
      said: group.length > 1 ? `rounds ${group[0].round} to ${group.at(-1).round}` : `round ${group[0].round}`,
      group,
    }));
  }

  // Words for a metric of a kind, as clients name them.
  function words(kind, metric) {
    if (kind === "train") return metric.startsWith("before_") ? `${metric.slice(7)} before training` : `${metric} (training)`;
    return metric;
  }

  window.fedn = Object.assign(window.fedn ?? {}, { series, band, lines, bars, average, escaped, words });
}
