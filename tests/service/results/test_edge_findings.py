"""Bests at an end of what was searched or tuned over, and how that is said."""

import pytest
from findings_support import SPACE, evidence, found
from records_support import record_of

from search_spaces.space import SearchSpace
from service.record.records import RunRecord
from service.results.findings import AtEdge, TunedAtEdge
from service.results.report import report


def test_a_best_at_the_edge_of_a_range_is_said() -> None:
    domains = SearchSpace.parse(SPACE).domains
    record = record_of(1, {"tau": 7.9, "hard_weight": 0.5, "seed": 4}, {"rouge_l": 30.0})
    edges = [one for one in report(evidence([record], domains=domains)) if isinstance(one, AtEdge)]
    assert [(one.name, one.edge.end) for one in edges] == [
        ("tau", "upper"),
        ("hard_weight", "upper"),
    ]
    assert edges[0].sentence() == (
        "the best tau, 7.9, lies at the upper end of what was searched (0.5 to 8): a better one "
        "may lie beyond"
    )


@pytest.mark.parametrize(
    ("name", "tried", "best", "is_said"),
    [
        ("student_share", [0, 0.5, 1], 1.0, False),
        ("student_share", [0, 0.25, 0.5], 0.5, True),
        ("discount", [0, 0.9, 1], 0.0, False),
        ("discount", [0.5, 0.9, 1], 0.5, True),
        ("tau", [1, 2, 4], 4.0, True),
        ("samples_per_prompt", [1, 2, 4], 1, False),
    ],
)
def test_nothing_lies_beyond_what_a_field_can_be(
    name: str, tried: list[float], best: float, is_said: bool
) -> None:
    domains = SearchSpace.parse({name: {"choice": tried}}).domains
    values = {"student_share": 1.0, "sequence_term": "kl_reward", name: best}
    told = found(AtEdge, [record_of(1, values, {"rouge_l": 30.0})], domains=domains)
    assert (told is not None) == is_said


def of_study(trial: int, tau: float, rate: float, role: str) -> RunRecord:
    """A trial of a study that tuned its cells' learning rates."""
    tags = {"role": role, "tuned": "learning_rate"}
    values = {"tau": tau, "learning_rate": rate}
    return record_of(trial, values, {"rouge_l": 20.0 + tau}, tags=tags)


@pytest.mark.parametrize("rates", [(1e-3, 3e-3, 1e-2), (1e-3, 1e-2)])
def test_cells_tuned_to_an_end_of_the_list_are_said(rates: tuple[float, ...]) -> None:
    tuning = tuple(of_study(n, 1.0, rate, "tuning") for n, rate in enumerate(rates))
    chosen = ((1.0, 1e-3), (2.0, 3e-3), (4.0, 1e-2))
    compared = [of_study(9 + n, tau, rate, "compared") for n, (tau, rate) in enumerate(chosen)]
    told = found(TunedAtEdge, compared, tuning=tuning)
    if len(rates) < 3:  # each of two is an end
        assert told is None
        return
    assert told.sentence() == (
        "the tuned learning_rate of 2 of 3 cells lies at an end of what was tried (0.001 to "
        "0.01): learning_rate=0.01 tau=4 at the upper one; learning_rate=0.001 tau=1 at the lower "
        "one. A better one may lie beyond: tune over a wider list"
    )
    inside = found(TunedAtEdge, [compared[1]], tuning=tuning)
    assert inside is None
