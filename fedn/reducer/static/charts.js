// Charts by plotly in the page's colours, each with its numbers as CSV and itself as PNG.
//
//   fedn.chart(element, traces, layout, { name: "accuracy", columns: ["round", …], rows: [[1, …], …] })
//
// Called again for the same element it redraws in place; a zoom that the person made stays.
"use strict";

{
  const { library } = document.currentScript.dataset;
  const shown = new Map(); // element id -> what it is drawn from
  const drawn = new Set();
  let asked = false;

  function chart(element, traces, layout = {}, data = null) {
    shown.set(element.id, { traces, layout, data });
    if (window.Plotly) draw(element.id);
    else if (!asked) load();
  }

  // Plotly takes longer to read than all else: it comes once there is something to draw, behind the page.
  function load() {
    asked = true;
    const script = document.createElement("script");
    script.src = library;
    script.onload = () => { for (const id of shown.keys()) draw(id); };
    script.onerror = () => { asked = false; }; // the next chart asks again
    document.head.append(script);
  }

  function draw(id) {
    const element = document.getElementById(id);
    if (!element) return;
    const { traces, layout, data } = shown.get(id);
    const styles = getComputedStyle(document.documentElement);
    const colour = (name) => styles.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--bs-border-color"), zeroline: false, automargin: true, linecolor: colour("--bs-border-color") };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "kept", colorway: colours(),
      font: { color: colour("--bs-body-color"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      margin: { l: 48, r: 12, t: 12, b: 40 }, hovermode: "closest", showlegend: traces.length > 1,
      hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--bs-border-color"), font: { color: colour("--bs-body-color") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      ...layout,
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    };
    Plotly.react(element, traces, base, { responsive: true, displayModeBar: false });
    if (data && !drawn.has(id)) element.after(downloads(element));
    drawn.add(id);
  }

  // Apart from one another also for those who see few colours; the same in light and dark.
  function colours() {
    return ["#3b7dd8", "#d9822b", "#2f9e62", "#b455b6", "#c2463d", "#5f7f8f", "#a88a1d", "#2aa0a8"];
  }

  function downloads(element) {
    const row = document.createElement("p");
    row.className = "downloads";
    row.append(button("PNG", () => picture(element)), button("CSV", () => table(element)));
    return row;
  }

  function button(word, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "btn btn-sm btn-outline-secondary";
    made.textContent = word;
    made.addEventListener("click", act);
    return made;
  }

  function picture(element) {
    const { data } = shown.get(element.id);
    const ground = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
    const figure = { data: element.data, layout: { ...element.layout, paper_bgcolor: ground } }; // legible wherever it is shown
    Plotly.downloadImage(figure, { format: "png", filename: data.name, width: 1200, height: 600, scale: 2 });
  }

  function table(element) {
    const { data } = shown.get(element.id);
    const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
    // A cell that begins as a formula does would be one in a spreadsheet.
    const safe = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : value);
    const lines = [data.columns, ...data.rows].map((row) => row.map((value) => quoted(safe(value))).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = data.name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  document.addEventListener("fedn:theme", () => { for (const id of drawn) draw(id); });

  window.fedn = Object.assign(window.fedn ?? {}, { chart, colours });
}
