"use strict";
(() => {
  const PRINTED_WIDTH = 660; // pixels of an A4 page between its margins
  const charts = [...document.querySelectorAll("script[data-chart]")].map((source) => ({
    place: document.getElementById(source.dataset.chart),
    figure: JSON.parse(source.textContent),
  }));
  const root = document.documentElement;

  // Puts the page's colours in the place of their names, which stand in figures as var(--name).
  const coloured = (value, style) => {
    if (typeof value === "string") {
      const name = value.startsWith("var(--") && value.slice(4, -1);
      return name ? style.getPropertyValue(name).trim() : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
  };

  const draw = (width) => {
    const style = getComputedStyle(root);
    return Promise.all(charts.map(({ place, figure }) => {
      const { data, layout } = coloured(figure, style);
      if (width) layout.width = width;
      const config = { responsive: !width, displaylogo: false, displayModeBar: false };
      return Plotly.react(place, data, layout, config);
    }));
  };

  const print = (isPrinting) => {
    root.classList.toggle("printing", isPrinting);
    draw(isPrinting ? PRINTED_WIDTH : null);
  };

  draw().then(() => { root.dataset.drawn = charts.length; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  const seconds = Number(document.body.dataset.reload || 0);
  if (seconds) setTimeout(() => location.reload(), 1000 * seconds);
})();
