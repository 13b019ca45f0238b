"use strict";
// The live page's two pictures, in the report's colours: each trial's score against its temperature,
// and its scores on the way there.

const charts = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  const series = new Map(); // a divergence and policy keep their colour
  const colourOf = (name) => {
    if (!series.has(name)) series.set(name, series.size);
    const number = series.get(name);
    return colour(number < 7 ? `series-${number}` : "other");
  };

  const layout = (x, y) => ({
    height: 340,
    margin: { l: 56, r: 12, t: 12, b: 46 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("rule"), font: { color: colour("ink") } },
    legend: { orientation: "h", y: -0.22, font: { size: 11 } },
    xaxis: { gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, automargin: true, ...x },
    yaxis: { gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, automargin: true, ...y },
    uirevision: "kept",
  });

  const nameOf = (values) => [values.divergence, values.policy].filter(Boolean).join(" ") || "trials";
  // Plotly reads a few tags in texts: what a user wrote is none.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const described = (trial) => [`trial ${trial.number}`,
    ...Object.entries(trial.hyperparameters).map(([name, value]) => `${name}=${digits(value)}`)].map(plain).join("<br>");

  const grouped = (trials) => {
    const groups = new Map();
    for (const trial of trials) {
      const name = nameOf(trial.hyperparameters);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(trial);
    }
    return [...groups].sort(([one], [other]) => one.localeCompare(other));
  };

  // The field whose values tell the trials apart best: a temperature where one is searched.
  const axisOf = (trials) => {
    const numeric = (name) => new Set(trials.map((one) => one.hyperparameters[name]).filter((value) => typeof value === "number")).size;
    const names = [...new Set(trials.flatMap((one) => Object.keys(one.hyperparameters)))];
    const first = ["tau", "rho_per_log_vocab", "rho"].filter((name) => names.includes(name));
    return [...first, ...names.filter((name) => !first.includes(name) && name !== "seed")].find((name) => numeric(name) > 1);
  };

  const drawScatter = (place, title, trials, metric) => {
    const scored = trials.filter((one) => one.objective != null);
    const axis = axisOf(scored);
    title.textContent = axis ? `${metric} against ${axis}` : `${metric} by trial`;
    const at = (one) => (axis ? one.hyperparameters[axis] : one.number);
    const data = grouped(scored.filter((one) => typeof at(one) === "number")).map(([name, group]) => ({
      type: "scatter", mode: "markers", name: plain(name),
      x: group.map(at), y: group.map((one) => one.objective),
      text: group.map(described), hovertemplate: `%{y:.4g}<br>%{text}<extra></extra>`,
      marker: { size: 9, color: colourOf(name), opacity: 0.85, symbol: group.map((one) => (one.state === "completed" ? "circle" : "circle-open")) },
    }));
    const xs = data.flatMap((one) => one.x);
    const isLog = xs.length > 1 && Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 4;
    Plotly.react(place, data, layout({ title: { text: axis ?? "trial" }, type: isLog && axis ? "log" : "linear" }, { title: { text: plain(metric) } }), config);
  };

  const drawCurves = (place, title, trials, metric, best) => {
    title.textContent = `${metric} while trials train`;
    const known = trials.filter((one) => one.curve.length);
    const last = Math.max(1, ...known.map((one) => one.curve.at(-1)[0]));
    const data = grouped(known).flatMap(([name, group]) => group.map((one, at) => ({
      type: "scatter", mode: one.curve.length > 1 ? "lines" : "markers", name: plain(name), legendgroup: name, showlegend: at === 0,
      x: one.curve.map(([evaluation]) => evaluation), y: one.curve.map(([, value]) => value),
      text: one.curve.map(() => described(one)), hovertemplate: `%{y:.4g}<br>%{text}<extra></extra>`,
      line: { color: colourOf(name), width: one.number === best ? 3 : 1.4 },
      opacity: one.number === best || one.state === "running" ? 1 : 0.45,
      marker: { color: colourOf(name) },
    })));
    Plotly.react(place, data, layout({ title: { text: "evaluation" }, tick0: 0, dtick: Math.max(1, Math.ceil(last / 8)) }, { title: { text: plain(metric) } }), config);
  };

  return { drawScatter, drawCurves };
})();
