"use strict";
// One sweep, live: what its record has, and on top of it the events as they come.
(() => {
  const at = (id) => document.getElementById(id);
  const sweep = at("sweep").dataset.sweep;
  const path = `/sweeps/${encodeURIComponent(sweep)}`;
  const MOST_LINES = 2000;
  const trials = new Map();
  const lines = [];
  let plan = null, status = null, doing = "", isDue = false, isStarting = false;

  const objective = () => plan?.spec.objective[0] ?? { metric: "objective", direction: "maximize" };
  const trialAt = (number) => {
    if (!trials.has(number)) trials.set(number, { number, state: "pending", hyperparameters: {}, label: null, objective: null, percent: 0, curve: [] });
    return trials.get(number);
  };
  const isOver = (trial) => !["pending", "running"].includes(trial.state);

  // -- what is known

  const take = {
    Preparing: ({ stage, share }) => { doing = `${stage} ${Math.round(100 * share)} %`; },
    Waiting: ({ what }) => { doing = what; },
    SlotsUp: ({ num_slots: up, num_planned: planned }) => { doing = up ? "" : `0 of ${planned} slots are up`; },
    TrialStarted: ({ trial, label, hyperparameters }) => {
      Object.assign(trialAt(trial), { state: "running", label, hyperparameters, percent: 0, objective: null });
      doing = "";
    },
    TrialAdvanced: ({ trial, step, num_steps: steps }) => { trialAt(trial).percent = Math.floor((100 * step) / steps); },
    TrialEvaluated: ({ trial, evaluation, metrics }) => {
      const { curve } = trialAt(trial);
      const value = metrics[objective().metric];
      if (typeof value !== "number") return;
      while (curve.length && curve.at(-1)[0] >= evaluation) curve.pop(); // an attempt goes over it again
      curve.push([evaluation, value]);
    },
    TrialEnded: ({ trial, state, objective: score, error }) => Object.assign(trialAt(trial), { state, objective: score, error, percent: 100 }),
    Notice: ({ text }) => { doing = text; },
    SweepEnded: () => { doing = ""; },
  };

  const recorded = async () => {
    for (const row of await askAll(`${path}/trials`, "trial")) {
      const { state, label, hyperparameters, objective: score } = row;
      const known = trialAt(row.trial);
      if (!isOver(known)) Object.assign(known, { state, label, hyperparameters, objective: isOver(row) ? score : null });
      known.isRecorded = true;
    }
  };

  const bestOf = () => {
    const sign = objective().direction === "minimize" ? -1 : 1;
    const scored = [...trials.values()].filter((one) => one.objective != null && one.state === "completed");
    return scored.reduce((best, one) => (!best || sign * one.objective > sign * best.objective ? one : best), null);
  };

  // -- what is shown

  const showHead = (all, best) => {
    const ended = all.filter(isOver).length;
    const total = Math.max(plan?.num_trials ?? 0, all.length);
    const state = status?.state ?? "";
    if (at("state").className !== `state ${state}`) {
      at("state").className = `state ${state}`;
      at("state").textContent = inWords(state);
    }
    const { metric, direction } = objective();
    const counts = Object.entries(all.reduce((found, one) => ({ ...found, [one.state]: (found[one.state] ?? 0) + 1 }), {}));
    at("about").textContent = plan
      ? `${metric}, to ${direction} · ${digits(ended)} of ${digits(total)} trials have ended${counts.length ? ": " : ""}${counts.map(([name, count]) => `${count} ${inWords(name)}`).join(", ")}`
      : "";
    const bar = at("progress");
    bar.setAttribute("aria-valuemax", total);
    bar.setAttribute("aria-valuenow", ended);
    bar.firstElementChild.style.width = total ? `${(100 * ended) / total}%` : "0";
    at("doing").textContent = status?.message ?? doing;
    at("best").hidden = !best;
    if (best) {
      at("best").replaceChildren(
        make("p", { class: "found" }, make("span", { class: "score" }, digits(best.objective)), ` ${metric}, the best so far`),
        make("p", { class: "note" }, `trial ${best.number}: ${best.label ?? named(best.hyperparameters)}`));
    }
  };

  const named = (values) => Object.entries(values).map(([name, value]) => `${name}=${digits(value)}`).join(", ") || "defaults";

  const showTrials = (all, best) => {
    const names = [...new Set(all.flatMap((one) => Object.keys(one.hyperparameters)))];
    const isNumber = (name) => all.every((one) => [undefined, null].includes(one.hyperparameters[name]) || typeof one.hyperparameters[name] === "number");
    const cell = (name) => (isNumber(name) ? { class: "number" } : {});
    const head = make("tr", {}, make("th", { scope: "col" }, "Trial"), make("th", { scope: "col" }, "State"),
      ...names.map((name) => make("th", { scope: "col", ...cell(name) }, name)), make("th", { scope: "col", class: "number" }, objective().metric));
    const rows = all.map((one) => make("tr", { class: one === best ? "best" : null },
      make("th", { scope: "row" }, String(one.number)),
      make("td", {}, stateOf(one.state), one.state === "running" ? make("span", { class: "note" }, ` ${one.percent} %`) : null,
        one.label ? make("span", { class: "note" }, ` ${one.label}`) : null, one.error ? make("div", { class: "note" }, one.error) : null),
      ...names.map((name) => make("td", cell(name), digits(one.hyperparameters[name]))),
      make("td", { class: "number" }, digits(one.objective ?? one.curve.at(-1)?.[1]))));
    replaceRows(at("trials").tHead, all.length ? [head] : []);
    replaceRows(at("trials").tBodies[0], rows);
    at("no-trials").hidden = all.length > 0;
  };

  const showButtons = (all, best) => {
    const isGoing = ["pending", "running"].includes(status?.state);
    const has = (id, shown) => { if (at(id)) at(id).hidden = !shown; };
    has("stop", isGoing);
    has("resume", status && !isGoing && status.state !== "completed");
    has("extend", status && !isGoing && plan && !plan.study);
    has("report", all.some((one) => one.isRecorded && isOver(one)));
    has("confirm", status && !isGoing && plan && !plan.study && plan.spec.objective.length === 1 && best);
    has("promote", best?.isRecorded);
  };

  const show = () => {
    isDue = false;
    const all = [...trials.values()].sort((one, other) => one.number - other.number);
    const best = bestOf();
    const { metric } = objective();
    showHead(all, best);
    showTrials(all, best);
    showButtons(all, best);
    const isDrawn = all.some((one) => one.objective != null || one.curve.length);
    at("charts").hidden = !isDrawn;
    if (isDrawn) drawCharts(all, best, metric);
    if (at("log").open) showLog();
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
  };
  const drawCharts = (all, best, metric) => {
    charts.drawScatter(at("scatter"), at("scatter-title"), all, metric);
    charts.drawCurves(at("curves"), at("curves-title"), all, metric, best?.number);
  };
  const showSoon = () => { if (!isDue) { isDue = true; setTimeout(show, 250); } };

  const showLog = () => {
    const place = at("log").querySelector("pre");
    const isAtEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 20;
    place.textContent = lines.join("\n");
    if (isAtEnd) place.scrollTop = place.scrollHeight;
  };

  // -- what comes

  const asLine = ({ event, text, ...values }) => text ?? `${event} ${Object.entries(values).map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`).join(" ")}`;

  const listen = () => {
    const source = new EventSource(`/api/v1${path}/events`);
    source.onopen = () => trouble(null);
    source.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      lines.push(asLine(event));
      if (lines.length > MOST_LINES) lines.splice(0, lines.length - MOST_LINES);
      take[event.event]?.(event);
      if (event.event === "TrialStarted" && status?.state === "pending") look();
      showSoon();
    };
    source.addEventListener("end", async ({ data }) => {
      source.close();
      status = JSON.parse(data);
      await recorded().catch(() => null);
      showSoon();
    });
    source.addEventListener("problem", ({ data }) => { source.close(); trouble(JSON.parse(data).detail); });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(start, 3000);
      trouble("The service does not answer. This page goes on when it is back.");
    };
  };

  const look = async () => {
    status = await ask(`${path}/status`);
    if (!plan) plan = await ask(`${path}/plan`).catch(() => null);
    const all = [...trials.values()];
    if (all.some(isOver) && !all.some((one) => one.isRecorded)) await recorded().catch(() => null);
    showSoon();
  };

  const start = async () => {
    if (isStarting) return;
    isStarting = true;
    try {
      await look();
      await recorded().catch(() => null);
      show();
      listen();
    } catch (error) {
      trouble(error instanceof Problem ? error.message : "The service does not answer. This page goes on when it is back.");
      setTimeout(start, 3000);
    } finally {
      isStarting = false;
    }
  };

  // How it is doing changes without an event, too: it waits, starts, or its process is gone.
  setInterval(() => {
    if (!document.hidden && ["pending", "running"].includes(status?.state)) look().catch(() => null);
  }, 3000);

  // -- what is done

  const busy = (button, word, change) => async () => {
    const before = button.textContent;
    button.disabled = true;
    button.textContent = word;
    try {
      await change();
      trouble(null);
    } catch (error) {
      trouble(error instanceof Problem ? error.message : "The service does not answer. Try again once it is back.");
    } finally {
      button.disabled = false;
      button.textContent = before;
      showSoon();
    }
  };
  const act = (button, word, name, body) => busy(button, word, async () => {
    status = await ask(`${path}/${name}`, { method: "POST", body: body?.(), key: name === "stop" ? null : drawKey() });
    if (name !== "stop") {
      plan = null;
      await look();
      listen();
    }
  });
  const onSubmit = (id, word, change) => at(id)?.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(event.target.querySelector("button"), word, change)();
  });
  for (const [id, word] of [["stop", "Stopping…"], ["resume", "Resuming…"]]) {
    at(id)?.addEventListener("click", act(at(id), word, id));
  }
  at("extend")?.addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.target.querySelector("button"), "Extending…", "extend", () => ({ trials: Number(at("more").value) }))();
  });
  onSubmit("confirm", "Confirming…", async () => {
    const body = { top: Number(at("top").value), seeds: Number(at("seeds").value) };
    const made = await ask(`${path}/confirm`, { method: "POST", body, key: drawKey() });
    location.assign(`/sweeps/${encodeURIComponent(made.sweep_id)}`);
  });
  onSubmit("promote", "Promoting…", async () => {
    at("promoted").textContent = "";
    const made = await ask(`${path}/trials/${bestOf().number}/promote`, { method: "POST", body: { name: at("as").value } });
    at("promoted").textContent = `trial ${made.trial} is ${made.name} version ${made.version}: ${made.uri}`;
  });
  at("log").addEventListener("toggle", showLog);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  start();
})();
