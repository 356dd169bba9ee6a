// Colours: as the person chose, else as the system has them. Runs before anything is drawn.
"use strict";

{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("fedn-theme") ?? ""; } catch { return ""; } };
  const apply = () => {
    document.documentElement.dataset.bsTheme = chosen() || (dark.matches ? "dark" : "light");
    document.dispatchEvent(new CustomEvent("fedn:theme"));
  };
  apply();
  dark.addEventListener("change", apply);
  addEventListener("storage", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    if (!select) return;
    select.value = chosen();
    select.addEventListener("change", () => { localStorage.setItem("fedn-theme", select.value); apply(); });
  });
}
