// Events: addresses without empty fields, and a sign at what has come since the last look.
"use strict";

{
  const form = document.querySelector("form.filter");
  const lines = () => [...document.querySelectorAll("#events [data-number]")];
  const newest = () => Math.max(0, ...lines().map((line) => Number(line.dataset.number)));
  let seen = newest();

  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });

  document.addEventListener("fedn:redrawn", () => {
    for (const line of lines()) line.classList.toggle("fresh", seen > 0 && Number(line.dataset.number) > seen);
    seen = Math.max(seen, newest());
  });
}
