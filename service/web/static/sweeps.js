"use strict";
(() => {
  const table = document.getElementById("sweeps");

  const form = document.getElementById("compare");
  const picked = new Set();

  // Rows are made anew whenever they change: what is ticked is known beside them, and as an
  // attribute, so that a row that is only ticked stays, and with it the focus.
  form.addEventListener("change", ({ target }) => {
    target.toggleAttribute("checked", target.checked);
    if (target.checked) picked.add(target.value);
    else picked.delete(target.value);
    form.querySelector("button").disabled = picked.size < 2;
  });

  const row = (status, recorded) => {
    const { sweep_id: id, state, message } = status;
    const name = make("a", { href: `/sweeps/${encodeURIComponent(id)}` }, id);
    const said = message ? make("div", { class: "note" }, message) : null;
    const aim = recorded ? `${recorded.objective.metric} ${recorded.objective.direction === "minimize" ? "↓" : "↑"}` : "";
    const box = make("input", { type: "checkbox", class: "pick", name: "sweep", value: id, checked: picked.has(id), disabled: !recorded });
    const pick = make("label", { class: "pick" }, box, make("span", { class: "only-read" }, `Compare ${id}`));
    return make("tr", {},
      make("td", {}, pick),
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
    table.hidden = form.hidden = !statuses.length;
    document.getElementById("none").hidden = statuses.length > 0;
  }, 3000);
})();
