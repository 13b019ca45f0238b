"""A study's document: cells as small grids, shared seeds, and what would break the pairing."""

from typing import Any

import pytest

from service.errors import SpecError
from service.spec.document import SweepSpec, Training
from service.spec.parse import json_schema, parse_spec
from service.spec.study import seeds_in, why_held
from trainers.trial.config import LOSS_FIELDS

STUDY: dict[str, Any] = {
    "kind": "study",
    "name": "small",
    "teacher": {"model": "gpt2-xl"},
    "student": {"model": "gpt2"},
    "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
    "cells": [{"divergence": ["forward_kl", "reverse_kl"], "tau": [1, 2]}],
}
LISTED = {"tau": {"choice": [1, 2]}}


def study(**changes: Any) -> SweepSpec:
    return parse_spec({k: v for k, v in (STUDY | changes).items() if v is not None})


def values_of(spec: SweepSpec) -> list[dict[str, Any]]:
    return [dict(point) for point in spec.points()]


def test_a_study_trains_every_cell_to_its_budget_on_five_seeds() -> None:
    made = study()
    assert made.early_stopping.kind == "none"
    assert seeds_in(made.seeds) == (0, 1, 2, 3, 4)
    assert values_of(made) == [
        {"divergence": "forward_kl", "tau": 1},
        {"divergence": "forward_kl", "tau": 2},
        {"divergence": "reverse_kl", "tau": 1},
        {"divergence": "reverse_kl", "tau": 2},
    ]


def test_cells_are_a_union_of_grids() -> None:
    cells = [
        {"hard_weight": 1, "soft_weight": 0},
        {"policy": "cist", "rho_per_log_vocab": [0.8, 1], "detach_student_temperature": [True]},
    ]
    cist = {"policy": "cist", "detach_student_temperature": True}
    assert values_of(study(cells=cells)) == [
        {"hard_weight": 1, "soft_weight": 0},
        cist | {"rho_per_log_vocab": 0.8},
        cist | {"rho_per_log_vocab": 1},
    ]


def test_a_cell_may_change_what_a_section_gives_and_take_it_back() -> None:
    made = study(
        loss={"tau": 2, "hard_weight": 0.5},
        cells=[{"tau": 4}, {"policy": "cist", "tau": None}],
    )
    first, second = (made.trial_config(values) for values in made.points())
    assert (first.tau, first.hard_weight) == (4, 0.5)
    assert (second.tau, second.policy) == (None, "cist")


def test_a_search_of_lists_is_its_full_grid() -> None:
    search = LISTED | {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"choice": [1, 2], "when": {"policy": "fixed"}},
    }
    assert values_of(study(cells=None, search=search)) == [
        {"policy": "fixed", "tau": 1},
        {"policy": "fixed", "tau": 2},
        {"policy": "cist"},
    ]


@pytest.mark.parametrize(("seeds", "meant"), [(2, (0, 1)), ([7, 3], (7, 3)), (None, range(5))])
def test_seeds_are_counted_or_listed(seeds: Any, meant: Any) -> None:
    assert seeds_in(study(seeds=seeds).seeds) == tuple(meant)


def test_a_study_is_written_out_as_it_was_read() -> None:
    made = study(seeds=3, tune={"learning_rate": [1e-3, 1e-4]})
    again = SweepSpec.model_validate(made.model_dump(mode="json"))
    assert again == made
    assert "search" not in made.model_dump()


def test_a_search_is_written_out_without_what_only_studies_have() -> None:
    search = parse_spec(
        {k: v for k, v in STUDY.items() if k not in ("kind", "cells")}
        | {"search": {"tau": {"float": [1, 2]}}}
    )
    assert not {"cells", "seeds", "tune"} & search.model_dump().keys()


def test_of_training_cells_may_differ_in_what_leaves_the_pairing_alone() -> None:
    allowed = {name for name in Training.model_fields if why_held(name) is None}
    assert allowed == {"optimizer", "learning_rate", "weight_decay", "decay", "clip_norm"}
    held = [name for name in LOSS_FIELDS if why_held(name) is not None]
    assert held == ["allow_free_logit_scale"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": [{"batch_size": [16, 32]}]}, r"cells\[0\]\.batch_size: .* order of their data"),
        ({"cells": [{"epochs": 2}]}, r"cells\[0\]\.epochs: .* share their budget, but got 2"),
        ({"cells": [{"tau": 1}, {"schedule": "linear"}]}, r"cells\[1\]\.schedule: .*schedule"),
        ({"cells": [{"max_tokens": 64}]}, r"max_tokens: .*trials that are compared share their"),
        ({"cells": [{"evaluations": 2}]}, r"evaluations: .*evaluation must be the same"),
        ({"cells": [{"seed": [0, 1]}]}, r"cells\[0\]\.seed: .*list them under seeds"),
        ({"cells": [{"temperature": 2, "ta": 1}]}, r"must be fields of a trial.*'temperature'"),
        ({"cells": [{"tau": {"float": [1, 2]}}]}, r"^cells\[0\]\.tau: must be text, a number"),
        ({"cells": [{"tau": []}]}, r"^cells\[0\]\.tau: .*but got \[\]"),
        ({"cells": [{}]}, r"^cells\[0\]: must be a mapping"),
        ({"cells": {"tau": [1, 2]}}, r"^cells: must be a list of mappings, but got \{'tau'"),
        ({"cells": [{"tau": -1}]}, r"^cells\.tau: .*but got tau=-1.*\(at tau: -1\)"),
        (
            {"cells": [{"policy": "cist", "tau": 2}]},
            r"^cells\.tau: .*belongs to.* an entry of cells",
        ),
        ({"cells": [{"learning_rate": list(range(1, 10_002))}]}, "may have 10,000 cells"),
        ({"cells": None}, "either cells or a search .* but got neither"),
        ({"search": LISTED}, "either cells or a search .* but got both"),
        (
            {"cells": None, "search": {"tau": {"float": [1, 16], "log": True}}},
            r"^search\.tau: .*must be listed, .*Write \{choice: \[1, 2, 4, 8, 16\]\}",
        ),
        (
            {"cells": None, "search": LISTED | {"batch_size": {"choice": [8, 16]}}},
            r"^search\.batch_size: cells may not differ",
        ),
        ({"sampler": {"kind": "tpe"}}, "^sampler: a study has none, .*but got tpe. Leave it out"),
        ({"trials": 10}, r"^trials: a study has as many as cells times seeds"),
        ({"early_stopping": {"kind": "median"}}, "^early_stopping: .*train to one budget.*median"),
        ({"training": {"seed": 3}}, r"^training\.seed: .*Write seeds: \[3, …\]"),
        ({"seeds": 1}, r"^seeds: needs 2 to 1,000 seeds, since one alone gives no interval"),
        ({"seeds": [4]}, r"^seeds: needs 2 to .* but got 1\."),
        ({"seeds": [4, 5, 4]}, r"^seeds: a seed trained twice .*but got 4 twice"),
        ({"seeds": "many"}, r"^seeds: must be how many, or a list, but got 'many'"),
        ({"seeds": True}, r"^seeds: must be how many, or a list, but got True"),
        ({"tune": {"learning_rate": [0.1]}}, r"^tune\.learning_rate: needs at least 2 entries"),
        ({"tune": {"learning_rate": [0.1, 0.1]}}, r"^tune\.learning_rate: its values must differ"),
        (
            {"tune": {"learning_rate": [0.1, 0.2], "seed": 3}},
            r"^tune\.seed: must be none of the seeds that are compared.*but got 3",
        ),
        (
            {"tune": {"learning_rate": [0.1, 0.2]}, "training": {"learning_rate": 0.1}},
            r"^tune\.learning_rate: a learning rate is either tuned or given",
        ),
        (
            {
                "tune": {"learning_rate": [0.1, 0.2]},
                "objective": [{"metric": "rouge_l"}, {"metric": "cross_entropy"}],
            },
            r"^tune: the best learning rate is that of one objective, but got 2",
        ),
        ({"kind": "search", "search": LISTED}, r"^cells: only a study has it, .*Add kind: study"),
        ({"kind": "search", "cells": None}, r"^search: must be given, but it is missing"),
        ({"kind": "grid"}, r"^kind: must be one of 'search' or 'study', but got 'grid'"),
    ],
)
def test_what_breaks_the_pairing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study(**changes)


def test_the_schema_knows_a_study() -> None:
    properties = json_schema()["properties"]
    assert {"cells", "seeds", "tune"} <= properties.keys()
