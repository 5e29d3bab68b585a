"use strict";
// Everything is readable without this: it adds a filter by fault, and one line under the pointer in all charts.
(() => {
  const select = document.getElementById("filter");
  const rows = [...document.querySelectorAll(".stories tbody tr")];
  const show = () => {
    const fault = select.value;
    let shown = 0;
    for (const row of rows) {
      row.hidden = fault !== "" && !row.dataset.faults.split(" ").includes(fault);
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = fault ? `${shown} of ${rows.length}` : "";
  };
  select.addEventListener("change", show);
  select.parentElement.hidden = false;

  const panels = document.querySelector(".panels");
  const lines = [...panels.querySelectorAll(".cursor")];
  const move = (event) => {
    const chart = event.target.closest("svg.chart");
    const plot = chart && chart.querySelector(".plot");
    const box = plot && plot.getBoundingClientRect();
    const inside = box && event.clientX >= box.left && event.clientX <= box.right;
    const left = inside ? Number(plot.getAttribute("x")) : 0;
    const x = inside ? left + ((event.clientX - box.left) / box.width) * Number(plot.getAttribute("width")) : 0;
    for (const line of lines) {
      line.classList.toggle("on", Boolean(inside));
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
  };
  panels.addEventListener("pointermove", move);
  panels.addEventListener("pointerleave", move);
})();
