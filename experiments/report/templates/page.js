"use strict";
// The table's filter. Rows are hidden, not removed, so that anchors and printing find them all.
(function () {
  const rows = [...document.querySelectorAll("#verdicts tbody tr")];
  const [search, verdict, paper, shown] = ["search", "verdict", "paper", "shown"].map((id) =>
    document.getElementById(id));
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = (!verdict.value || row.dataset.verdict === verdict.value)
        && (!paper.value || row.dataset.paper === paper.value)
        && words.every((word) => text.includes(word));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length}`;
  }
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, verdict, paper]) control.addEventListener("input", filter);
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("article details")) part.open = true;
  });
})();

// Vega stands at the end of the page, so that all else is on the screen before it is read.
function drawCharts() {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  for (const [id, spec] of Object.entries(specs)) {
    vegaEmbed(`#${id}`, spec, { actions: false, renderer: "svg" }).then((result) => {
      document.getElementById(id).dataset.ready = "yes";
      (window.views ??= {})[id] = result.view;
    });
  }
}
