"use strict";
// Draws the charts, again when the colour scheme changes, and lets one run stand out in all of them.
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let drawn = [];
  let focus = "";
  let turn = 0;

  const repaint = (_key, value) =>
    dark.matches && typeof value === "string" ? page.in_dark[value.toLowerCase()] ?? value : value;

  async function draw() {
    const mine = ++turn;
    const theme = dark.matches ? "dark" : "light";
    const config = page.themes[theme];
    const made = await Promise.all(page.charts.map(async ({ id, specification }) => {
      const place = document.getElementById(id);
      const options = { config, actions: false, ast: true, renderer: "svg", tooltip: { theme } };
      try {
        return await vegaEmbed(place, JSON.parse(JSON.stringify(specification), repaint), options);
      } catch (problem) {
        place.textContent = `This chart cannot be drawn: ${problem.message}`;
        throw problem;
      }
    }));
    if (mine !== turn) {
      made.forEach((one) => one.finalize());
      return;
    }
    drawn.forEach((one) => one.finalize());
    drawn = made;
    document.querySelectorAll("[data-colour]").forEach((key) => {
      key.style.color = repaint("", key.dataset.colour);
    });
    highlight();
    document.documentElement.dataset.drawn = theme;
  }

  function highlight() {
    document.querySelectorAll("[data-run]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.run === focus));
    });
    drawn.forEach(({ view, vgSpec }) => {
      if (vgSpec.signals?.some(({ name }) => name === "focus")) view.signal("focus", focus).runAsync();
    });
  }

  document.querySelectorAll("[data-run]").forEach((button) => {
    button.addEventListener("click", () => {
      focus = focus === button.dataset.run ? "" : button.dataset.run;
      highlight();
    });
  });
  dark.addEventListener("change", draw);
  draw();
})();
