"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const [form, preset, text, overrides, shown, button] =
    ["form", "preset", "document", "overrides", "shown", "submit"].map(at);
  let planned = null; // what was planned, with the key of its submission

  const wanted = () => ({
    spec: preset.value || text.value,
    overrides: overrides.value.split("\n").map((line) => line.trim()).filter(Boolean),
  });

  const forget = () => {
    planned = null;
    shown.replaceChildren();
    shown.hidden = true;
    button.hidden = at("how").hidden = true;
    at("hint").hidden = false;
    trouble(null);
  };

  const fact = (name, value) => value === "" || value == null ? [] : [make("dt", {}, name), make("dd", {}, value)];

  const planView = (plan) => {
    const { estimate } = plan;
    const listed = plan.search_space.map((one) => make("tr", {},
      make("th", { scope: "row" }, one.name), make("td", {}, one.domain), make("td", {}, one.condition)));
    const controls = plan.controls.length ? `, ${plan.controls.length} of them controls` : "";
    return [
      make("h2", {}, plan.sweep_id),
      make("dl", { class: "facts" },
        ...fact("Trials", `${digits(plan.num_trials)}${controls}`),
        ...fact("At once", digits(plan.slots)),
        ...fact("Takes", estimate.duration_range_s ? estimate.duration_range_s.map(duration).join(" to ") : "not known yet"),
        ...fact("CPU hours", digits(estimate.cpu_hours)),
        ...fact("GPU hours", estimate.gpu_hours ? digits(estimate.gpu_hours) : ""),
        ...fact("Disk", sizeOf((estimate.checkpoint_bytes ?? 0) + (estimate.teacher_cache_bytes ?? 0))),
        ...fact("Known from", estimate.basis),
        ...fact("Teacher", plan.teacher.source === "online" ? `asked in every trial: ${plan.teacher.reason}` : "runs once; trials read its cache")),
      ...(listed.length ? [make("h3", {}, "Tries"), make("div", { class: "scroll" }, make("table", { class: "rows" }, make("tbody", {}, ...listed)))] : []),
      ...(plan.warnings.length ? [make("h3", {}, "To know"), make("ul", {}, ...plan.warnings.map((one) => make("li", {}, one)))] : []),
    ];
  };

  const problemView = (told) => [
    make("h2", {}, "Not yet"),
    make("ul", { class: "wrongs" }, ...(told.errors?.length ? told.errors : [{ rule: told.detail }]).map((one) => make("li", {},
      one.place ? make("strong", {}, `${one.place} `) : null, one.rule,
      one.got ? make("span", {}, `, but got ${one.got}`) : null,
      one.remedy ? make("div", { class: "note" }, one.remedy) : null))),
  ];

  const show = (children, isPlan) => {
    shown.replaceChildren(...children);
    shown.hidden = false;
    at("hint").hidden = true;
    button.hidden = at("how").hidden = !isPlan;
  };

  const busy = async (which, word, act) => {
    const before = which.textContent;
    which.disabled = true;
    which.textContent = word;
    try {
      await act();
    } catch (error) {
      if (error instanceof Problem) show(problemView(error.told), false);
      else trouble("The service does not answer. Try again once it is back.");
    } finally {
      which.disabled = false;
      which.textContent = before;
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(at("plan"), "Planning…", async () => {
      const body = wanted();
      const plan = await ask("/plan", { method: "POST", body });
      planned = { body, key: drawKey() };
      button.textContent = `Submit ${digits(plan.num_trials)} trials`;
      show(planView(plan), true);
    });
  });

  button.addEventListener("click", () => busy(button, "Submitting…", async () => {
    const body = { ...planned.body, priority: at("priority").value };
    const made = await ask("/sweeps", { method: "POST", body, key: planned.key });
    location.assign(`/sweeps/${encodeURIComponent(made.sweep_id)}`);
  }));

  preset.addEventListener("change", () => {
    at("own").hidden = Boolean(preset.value);
    at("finds").textContent = preset.selectedOptions[0].title;
    forget();
  });
  for (const one of [text, overrides]) one.addEventListener("input", forget);
  at("priority").addEventListener("change", () => { if (planned) planned.key = drawKey(); });
})();
