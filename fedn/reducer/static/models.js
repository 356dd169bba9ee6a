// Which two models are ticked: kept when the lists are drawn again, and no more than two.
"use strict";

{
  const form = document.getElementById("compare");
  const words = document.getElementById("compare-say");
  const button = form.querySelector("button");
  let ticked = [...form.querySelectorAll("[name=compare]:checked")].map((box) => box.value);

  form.addEventListener("change", ({ target }) => {
    ticked = ticked.filter((one) => one !== target.value);
    if (target.checked) ticked = [...ticked, target.value].slice(-2); // the one ticked first gives way
    draw();
  });
  document.addEventListener("fedn:redrawn", draw);
  draw();

  function draw() {
    const seen = new Set();
    for (const box of form.querySelectorAll("[name=compare]")) {
      box.checked = ticked.includes(box.value) && !seen.has(box.value); // one model may be in both lists
      if (box.checked) seen.add(box.value);
    }
    button.disabled = ticked.length < 2;
    const left = ["Tick two models to see how far they lie apart.", "Tick one more.", ""][ticked.length];
    if (words.textContent !== left) words.textContent = left;
  }
}
