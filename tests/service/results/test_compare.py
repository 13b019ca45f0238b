"""What a comparison shows, and what it leaves out."""

import json
import math

import pytest
from records_support import record_of

from service.errors import SpecError
from service.results.compare import compare
from service.results.standings import by_config

FORWARD = {"divergence": "forward_kl", "tau": 2.0}
REVERSE = {"divergence": "reverse_kl", "tau": 2.0}


def test_only_what_differs_is_shown() -> None:
    found = compare(
        [
            record_of(0, FORWARD, {"rouge_l": 0.2, "cross_entropy": math.nan}),
            record_of(1, REVERSE, {"rouge_l": 0.3}),
        ]
    )
    assert found.differs == {"divergence": ["forward_kl", "reverse_kl"]}
    assert found.metrics == {"cross_entropy": [None, None], "rouge_l": [0.2, 0.3]}
    assert found.names() == ["toy-1a2b3c4d/0", "toy-1a2b3c4d/1"]
    assert found.pairings == ()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_field_that_only_one_has_differs() -> None:
    found = compare(
        [
            record_of(0, FORWARD, {}),
            record_of(1, {"policy": "cist", "rho_per_log_vocab": 1.5}, {}),
        ]
    )
    assert found.differs["tau"] == [2.0, None]
    assert found.differs["rho_per_log_vocab"] == [None, 1.5]


def test_surroundings_that_differ_are_named_one_by_one() -> None:
    tags = [
        {"versions": json.dumps({"torch": version, "ray": "2"}), "fingerprint.data": "d"}
        for version in ("1", "2")
    ]
    found = compare([record_of(n, FORWARD, {}, tags=tag) for n, tag in enumerate(tags)])
    assert found.differs == {"versions.torch": ["1", "2"]}


def test_configs_that_share_seeds_are_paired() -> None:
    records = [
        record_of(10 * cell + seed, values | {"seed": seed}, {"rouge_l": base + 0.01 * seed})
        for cell, (values, base) in enumerate([(FORWARD, 0.2), (REVERSE, 0.25)])
        for seed in range(3)
    ]
    for record in records:
        record.metrics["probe/off_top5"] = 0.5 + record.trial  # explains, and is not tested
    (pairing,) = compare(records).pairings
    assert pairing.metric == "rouge_l"
    assert (pairing.first, pairing.second) == ("forward_kl tau=2", "reverse_kl tau=2")
    assert pairing.test.num_pairs == 3
    assert pairing.test.mean_difference == pytest.approx(0.05)
    assert compare(records).to_json()["pairings"][0]["metric"] == "rouge_l"


def test_several_configs_are_held_to_a_corrected_p() -> None:
    tests = {"forward_kl": 0.0, "reverse_kl": 0.05, "generalized_jsd": 0.01}
    records = [
        record_of(
            10 * cell + seed,
            {"divergence": name, "tau": 2.0, "seed": seed},
            {"rouge_l": 0.2 + gap + 0.01 * seed * (1 + cell)},
        )
        for cell, (name, gap) in enumerate(tests.items())
        for seed in range(3)
    ]
    pairings = compare(records).pairings
    raw = [one.test.p_value for one in pairings]
    assert [one.adjusted for one in pairings] == pytest.approx([2 * min(raw), max(raw)])
    assert "after Holm's correction for 2 comparisons: " in pairings[0].sentence()
    assert compare(records).to_json()["pairings"][0]["p_holm"] == pairings[0].adjusted


def test_names_of_configs_are_unique() -> None:
    records = [record_of(0, FORWARD, {}), record_of(1, FORWARD, {})]
    other = record_of(2, FORWARD, {})
    other.config["learning_rate"] = 1.0
    assert list(by_config([*records, other])) == ["forward_kl tau=2", "forward_kl tau=2 (trial 2)"]


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(SpecError, match="at least two runs are needed, but got 1"):
        compare([record_of(0, FORWARD, {})])


def test_plain_tags_and_configs_without_shared_seeds() -> None:
    records = [
        record_of(0, FORWARD | {"seed": 0}, {"rouge_l": 0.1}, tags={"device": "cpu"}),
        record_of(1, FORWARD | {"seed": 1}, {"rouge_l": 0.2}, tags={"device": "cuda"}),
        record_of(2, REVERSE | {"seed": 2}, {"rouge_l": 0.3}, tags={"device": "cpu"}),
    ]
    found = compare(records)
    assert found.differs["device"] == ["cpu", "cuda", "cpu"]
    assert found.pairings == ()
