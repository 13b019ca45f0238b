"use strict";
// Sweeps side by side: the best config of each, and what repeated seeds say of all of them.
(() => {
  const at = (id) => document.getElementById(id);
  const sweeps = [...new Set(new URLSearchParams(location.search).getAll("sweep"))];
  const signed = (value) => (value == null ? "–" : `${value > 0 ? "+" : ""}${digits(value)}`);
  const between = (low, high) => (low == null ? "–" : `${signed(low)} to ${signed(high)}`);
  const number = (text) => make("td", { class: "number" }, text);
  const reason = (error) => {
    if (error instanceof Problem) return error.message;
    throw error;
  };

  const bestOf = async (sweep) => {
    const found = await ask(`/sweeps/${encodeURIComponent(sweep)}/best?top=1`).catch(reason);
    return { sweep, best: found[0]?.metric ? found[0] : null, why: typeof found === "string" ? found : "no trial has completed" };
  };

  const showBests = (rows) => {
    const names = [...new Set(rows.flatMap(({ best }) => Object.keys(best?.hyperparameters ?? {})))];
    const head = make("tr", {}, ...["Sweep", "Trial"].map((name) => make("th", { scope: "col" }, name)),
      make("th", { scope: "col", class: "number" }, "Score"), make("th", { scope: "col" }, "Metric"),
      ...names.map((name) => make("th", { scope: "col" }, name)));
    const row = ({ sweep, best, why }) => make("tr", {},
      make("th", { scope: "row" }, make("a", { href: `/sweeps/${encodeURIComponent(sweep)}` }, sweep), best ? null : make("div", { class: "note" }, why)),
      make("td", {}, best ? `${best.trial}${best.label ? ` ${best.label}` : ""}` : ""),
      number(digits(best?.value)), make("td", {}, best ? `${best.metric} ${best.direction === "minimize" ? "↓" : "↑"}` : ""),
      ...names.map((name) => make("td", {}, digits(best?.hyperparameters[name]))));
    replaceRows(at("bests").tHead, [head]);
    replaceRows(at("bests").tBodies[0], rows.map(row));
  };

  const configRow = ({ name, num_seeds: seeds, mean, difference, p_holm: p, verdict }) => make("tr", {},
    make("th", { scope: "row" }, name), number(String(difference?.num_pairs ?? seeds)), number(digits(mean)),
    number(signed(difference?.mean_difference)), number(between(difference?.low, difference?.high)),
    number(p == null ? "–" : digits(p)), make("td", {}, verdict));

  const showSeeds = async () => {
    const runs = sweeps.map((sweep) => `run=${encodeURIComponent(sweep)}`).join("&");
    const found = await ask(`/compare?significance=true&${runs}`).catch(reason);
    if (typeof found === "string") {
      at("head").textContent = found;
      return;
    }
    const { metric, direction, control, configs, notes } = found.significance;
    at("head").textContent = `${metric}${direction ? `, to ${direction}` : ""}, against ${control.name}: ${digits(control.mean)} (${control.num_seeds} ${control.num_seeds === 1 ? "seed" : "seeds"})`;
    at("configs").hidden = !configs.length;
    replaceRows(at("configs").tBodies[0], configs.map(configRow));
    at("notes").replaceChildren(...notes.map((one) => make("li", {}, one)));
  };

  const show = async () => {
    at("none").hidden = sweeps.length > 1;
    try {
      showBests(await Promise.all(sweeps.map(bestOf)));
      await showSeeds();
      trouble(null);
    } catch {
      trouble("The service does not answer. Load the page again once it is back.");
    }
    document.documentElement.dataset.drawn = "1";
  };
  show();
})();
