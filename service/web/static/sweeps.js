"use strict";
(() => {
  const table = document.getElementById("sweeps");

  const row = (status, recorded) => {
    const { sweep_id: id, state, message } = status;
    const name = make("a", { href: `/sweeps/${encodeURIComponent(id)}` }, id);
    const said = message ? make("div", { class: "note" }, message) : null;
    const aim = recorded ? `${recorded.objective.metric} ${recorded.objective.direction === "minimize" ? "↓" : "↑"}` : "";
    return make("tr", {},
      make("th", { scope: "row" }, name, said),
      make("td", {}, stateOf(state)),
      make("td", {}, aim),
      make("td", { class: "number" }, digits(recorded?.num_trials)),
      make("td", { class: "number" }, duration(recorded?.duration_s)),
      make("td", {}, recorded ? make("time", { datetime: recorded.started_at }, ago(recorded.started_at)) : ""));
  };

  keepLooking(async () => {
    const [statuses, recorded] = await Promise.all([askAll("/status", "sweep_id"), askAll("/sweeps", "sweep_id")]);
    const known = new Map(recorded.map((one) => [one.sweep_id, one]));
    replaceRows(table.tBodies[0], statuses.map((one) => row(one, known.get(one.sweep_id))));
    table.hidden = !statuses.length;
    document.getElementById("none").hidden = statuses.length > 0;
  }, 3000);
})();
