"""Evaluation sets by name, as a user gives them, and what is recorded of them on a trial's run.
Pure, but for a look at whether a file is there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import PlanError, SpecError
from service.record.tags import TEST
from trainers.files.json_files import checked_object, parse_json
from trainers.files.names import local_path
from trainers.trial.facts import SetFacts
from trainers.trial.kinds import SET_NAME
from trainers.trial.sources import BUILTIN_PREFIX, DataSource

SPLIT = "test"  # of a set that has several
NO_NAME = re.compile(r"[^\w-]+", re.ASCII)
HARNESS = "lm-eval:"  # in front of a task's name, as a place
TAG = "test."  # in front of a set's name, among the tags of ours


@dataclass(frozen=True)
class NamedSet:
    """An evaluation set: its name in the record, and where its examples are; or a task of
    lm-evaluation-harness."""

    name: str
    place: str

    @property
    def task(self) -> str | None:
        """The harness's name of its task; None for a set of the user's own."""
        return self.place.removeprefix(HARNESS) if is_task(self.place) else None

    def source(self, data: DataSource, split: str) -> DataSource:
        """Returns where its examples are read from: columns, template and the like are those of a
        sweep's `data`; split: of a data set that has several."""
        return data.model_copy(
            update={
                "validation": self.place,
                "validation_split": split,
                "max_validation_examples": None,
            }
        )


@dataclass(frozen=True)
class Recorded:
    """What a run has recorded of an evaluation set: where it was, when, the fields that the answers
    were sampled with, and the facts of the set."""

    place: str
    at: str
    fields: Mapping[str, Any]
    facts: SetFacts

    @property
    def is_task(self) -> bool:
        """Whether it is a task of lm-evaluation-harness."""
        return is_task(self.place)


def is_task(place: str) -> bool:
    """Returns whether a place is a task of lm-evaluation-harness."""
    return place.startswith(HARNESS)


def named_sets(texts: Sequence[str], folder: Path, tasks: Sequence[str] = ()) -> list[NamedSet]:
    """Returns the sets that `[NAME=]PLACE` each mean, from `folder`, and those of `tasks` of
    lm-evaluation-harness. Raises `SpecError` for a wrong name or a name given twice, `PlanError`
    for a file that is not there."""
    found = [_named_set(text, folder) for text in texts]
    found += [NamedSet(NO_NAME.sub("_", task), HARNESS + task) for task in tasks]
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(
            f"--on: each set must have a name of its own, but got '{twice}' twice. "
            "Write --on NAME=PLACE."
        )
    return found


def _named_set(text: str, folder: Path) -> NamedSet:
    before, equals, after = text.partition("=")
    name, place = (before, after) if equals else (default_name(text), text)
    if not re.fullmatch(SET_NAME, name) or not place:
        raise SpecError(
            "--on: must be PLACE or NAME=PLACE with a name of letters, digits, _, - and ., "
            f"but got '{text}'."
        )
    return _set_at(f"--on {name}", name, place, folder)


def _set_at(given_as: str, name: str, place: str, folder: Path) -> NamedSet:
    if place.startswith(BUILTIN_PREFIX):
        return NamedSet(name, place)
    try:
        path = local_path(place, folder)
    except ValueError as error:
        raise SpecError(f"{given_as}: {error}.") from error
    if path is None:
        return NamedSet(name, place)
    if not path.exists() and not any(path.parent.glob(path.name)):
        raise PlanError(
            f"{given_as}: the file must exist, but {path} is missing. Give a file, a folder, a "
            "pattern of files, or the name of a Hugging Face data set."
        )
    return NamedSet(name, str(path))


def sets_of_sweeps(named: Mapping[str, Mapping[str, str]], folder: Path) -> list[NamedSet]:
    """Returns the sets that sweeps name in `data.test` (`named`: by their ids). Raises `SpecError`
    where they name none, or not all the same, `PlanError` for a file that is not there."""
    first, *others = named
    different = next((one for one in others if named[one] != named[first]), None)
    if different is not None:
        raise SpecError(
            "--on: must be given for trials of sweeps that name different test sets, but got none "
            f"for {first} ({_names_in(named[first])}) and {different} "
            f"({_names_in(named[different])}). Add --on NAME=PLACE."
        )
    if not named[first]:
        raise SpecError(
            "--on: an evaluation set must be named, but got none, and data.test of "
            f"{first} has none. Add --on FILE, or --harness TASK."
        )
    return [_set_at(f"data.test.{n}", n, place, folder) for n, place in named[first].items()]


def _names_in(sets: Mapping[str, str]) -> str:
    return ", ".join(sets) or "none"


def default_name(place: str) -> str:
    """Returns the last part of a place, without its endings."""
    last = place.rstrip("/").rpartition("/")[2].removeprefix(BUILTIN_PREFIX)
    return NO_NAME.sub("_", last.partition(".")[0]).strip("_")


def recorded_set(tags: Mapping[str, str], name: str) -> Recorded | None:
    """Returns what the tags of a run say of a set; None where the run was not evaluated on it.
    Raises `ValueError` for a tag that was edited."""
    text = tags.get(TAG + name)
    if text is None:
        return None
    place = f"tag {TAG}{name}"
    kinds = {"place": str, "at": str, "fields": dict, "facts": dict}
    found = checked_object(parse_json(text, place), place, kinds)
    facts = SetFacts.model_validate(found["facts"])
    return Recorded(found["place"], found["at"], found["fields"], facts)


def names_recorded(tags: Mapping[str, str]) -> list[str]:
    """Returns the sets that a run was evaluated on."""
    return [name.removeprefix(TAG) for name in tags if name.startswith(TAG)]


def metrics_of(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Returns a run's metrics of one set, by their plain names."""
    start = metric_name(name, "")
    return {
        metric.removeprefix(start): value
        for metric, value in metrics.items()
        if metric.startswith(start)
    }


def metric_name(name: str, metric: str) -> str:
    """Returns the name in the record of a metric on an evaluation set."""
    return f"{TEST}{name}/{metric}"
