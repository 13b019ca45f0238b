"""The card of a recorded student: for people, what it was made from, how, and what it scored; for
Hugging Face's hub, what it is. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from service.record import tags
from service.record.entries import ModelFacts
from service.record.metric_names import EVAL, plain_name
from service.words import number


@dataclass(frozen=True)
class RecordedRun:
    """What a model's files say of the run that it is of: its id and name, and what it holds."""

    run_id: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def searched(self) -> dict[str, str]:
        """The hyperparameters that the sweep tried, with the trial's values."""
        names = json.loads(self.tags.get(tags.SEARCHED, "[]"))
        return {name: self.params[name] for name in names if name in self.params}


def card(run: RecordedRun, facts: ModelFacts, *, is_adapter: bool = False) -> str:
    """Returns the model's card: Hugging Face's facts, then for people what it was made from, how,
    and what it scored. is_adapter: it is no model without its base."""
    sweep, trial = run.tags.get(tags.SWEEP_ID, ""), run.tags.get(tags.TRIAL, "")
    searched = run.searched or {"divergence": run.params.get("divergence", "")}
    others = {name: value for name, value in sorted(run.params.items()) if name not in searched}
    return f"""---
{_facts_of_hub(facts, is_adapter=is_adapter)}---

# {run.name}

A student that `kd-sweep` distilled: trial {trial} of sweep {sweep}, run {run.run_id}.

{_table(("made from", ""), facts.made_from)}

## How

What the sweep searched:

{_table(("hyperparameter", "value"), searched)}

The rest of its config:

{_table(("hyperparameter", "value"), others)}

## Scores on the validation data

{_table(("metric", "value"), _scores(run))}

## Use

{_prompting(facts)}{BESIDE if is_adapter else ""}
```python
import mlflow

model = mlflow.transformers.load_model("runs:/{run.run_id}/student")
```

`kd-sweep rerun {sweep}/{trial}` trains it again and compares the numbers.
"""


BESIDE = """
This is an adapter: what opens it looks for its base where `adapter_config.json` says. `kd-sweep
promote` and `export` with `--merge` give out the whole model.
"""


def _facts_of_hub(facts: ModelFacts, *, is_adapter: bool) -> str:
    front = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": facts.pipeline,
        "tags": ["knowledge-distillation", "kd-sweep"],
    }
    return yaml.safe_dump(front, sort_keys=False)


def _scores(run: RecordedRun) -> dict[str, str]:
    return {
        plain_name(name): number(value)
        for name, value in sorted(run.metrics.items())
        if name.startswith(EVAL)
    }


def _prompting(facts: ModelFacts) -> str:
    if facts.prompt_template is not None:
        return (
            "It was trained on prompts of this form, which `mlflow.pyfunc.load_model` puts a text "
            f"into:\n\n```\n{facts.prompt_template}\n```\n"
        )
    if facts.pipeline != "text-generation":
        return ""
    return "It was trained on conversations: the tokenizer's chat template makes its prompts.\n"


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {_cell(text)} |" for name, text in rows.items())])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
