"use strict";
// Draws the charts when they come into view, the others when there is time, all of them before the page is printed, and
// again when the colour scheme changes; and lets one run stand out in all of them.
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = page.charts.map(({ id, specification }) => {
    const place = document.getElementById(id);
    return { specification, place, label: place.getAttribute("aria-label") };
  });
  let focus = "";
  let turn = 0;
  let watching = null;

  const repaint = (_key, value) =>
    dark.matches && typeof value === "string" ? page.in_dark[value.toLowerCase()] ?? value : value;
  const scheme = () => (dark.matches ? "dark" : "light");
  const room = (place) => Math.max(120, place.clientWidth - 92); // without the vertical axis

  // Charts that are joined have a width in pixels, which is made to follow that of their place.
  const isJoined = ({ specification }) => "vconcat" in specification;

  function draw(chart) {
    if (chart.turn === turn) return chart.drawing;
    chart.turn = turn;
    const mine = turn;
    const { place, label } = chart;
    const options = {
      config: page.themes[scheme()], actions: false, ast: true, renderer: "svg", tooltip: { theme: scheme() },
      bind: place.previousElementSibling, patch: (program) => (isJoined(chart) ? { ...program, width: room(place) } : program),
    };
    chart.drawing = vegaEmbed(place, JSON.parse(JSON.stringify(chart.specification, repaint)), options).then((made) => {
      if (mine !== turn) return made.finalize();
      chart.made?.finalize();
      chart.made = made;
      place.style.minHeight = "";
      place.setAttribute("role", "img"); // Vega sets its own
      place.setAttribute("aria-label", label);
      place.removeAttribute("aria-roledescription");
      choose(chart);
    }, (problem) => {
      place.textContent = `This chart cannot be drawn: ${problem.message}`;
      throw problem;
    });
    return chart.drawing;
  }

  async function drawAll() {
    const mine = turn;
    for (const chart of charts) {
      await draw(chart);
      await new Promise((go) => (window.requestIdleCallback ?? setTimeout)(go));
      if (mine !== turn) return;
    }
    document.documentElement.dataset.drawn = scheme();
  }

  function begin() {
    turn += 1;
    document.querySelectorAll("[data-colour]").forEach((key) => {
      key.style.color = repaint("", key.dataset.colour);
    });
    watching?.disconnect();
    watching = new IntersectionObserver((entries) => {
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        draw(charts.find(({ place }) => place === entry.target));
      });
    }, { rootMargin: "300px" });
    charts.forEach(({ place }) => watching.observe(place));
    requestAnimationFrame(() => setTimeout(drawAll));
  }

  function choose({ made: { view }, specification }) {
    for (const { name, bind } of specification.params ?? []) {
      if (name === "focus" || (name === "run" && bind?.options.includes(focus))) view.signal(name, focus);
    }
    view.runAsync();
  }

  function highlight() {
    document.querySelectorAll("[data-run]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.run === focus));
    });
    charts.filter(({ made }) => made).forEach(choose);
  }

  document.querySelectorAll("[data-run]").forEach((button) => {
    button.addEventListener("click", () => {
      focus = focus === button.dataset.run ? "" : button.dataset.run;
      highlight();
    });
  });
  addEventListener("resize", () => charts.filter(isJoined).forEach(({ made, place }) => {
    made?.view.width(room(place)).runAsync();
  }));
  addEventListener("beforeprint", () => charts.forEach(draw));
  dark.addEventListener("change", begin);
  begin();
})();
