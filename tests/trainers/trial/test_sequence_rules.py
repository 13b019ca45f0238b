"""What TrialConfig fills in and refuses about the sequence term, with rule, value and remedy."""

from typing import Any

import pytest

from trainers.trial.config import TrialConfig
from trainers.trial.sequence_rules import SEQUENCE_PARAMETERS
from trainers.trial.sequence_terms import SEQUENCE_TERMS, SequenceTerm


@pytest.mark.parametrize("term", [one for one in SequenceTerm if one != SequenceTerm.NONE])
def test_the_terms_defaults_are_written_out(term: SequenceTerm) -> None:
    config = TrialConfig(sequence_term=term, student_share=1)
    own = SEQUENCE_TERMS[term].parameters
    assert {name: getattr(config, name) for name in own} == {
        name: row.default for name, row in own.items()
    }
    assert all(getattr(config, name) is None for name in set(SEQUENCE_PARAMETERS) - own.keys())
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_documents_without_a_term_know_none_of_it() -> None:
    """Or recorded sweeps would have other ids."""
    names = {"sequence_term", *SEQUENCE_PARAMETERS}
    assert not names & TrialConfig().model_dump().keys()
    assert names <= TrialConfig(sequence_term="kl_reward", student_share=1).model_dump().keys()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequence_term": "k1"}, r"none, kl_reward, k2, but got 'k1': .* gradient 0 on average"),
        ({"sequence_term": "k3"}, r"but got 'k3': .*forward KL's gradient"),
        ({"sequence_term": "k3_reward"}, r"but got 'k3_reward': .* neither; use kl_reward"),
        ({"sequence_term": "reinforce"}, r"sequence_term\n.*should be 'none', 'kl_reward' or"),
        ({"discount": 0.5}, r"discount belongs to sequence_term kl_reward, .*'none'. Leave it out"),
        (
            {"sequence_term": "k2", "whiten": True},
            r"whiten belongs to sequence_term kl_reward, but",
        ),
        ({"discount": 1.5}, r"0.0 <= discount <= 1.0 must hold, but got discount=1.5"),
        ({"sequence_weight": -1}, r"0.0 <= sequence_weight <= 100.0 .* got sequence_weight=-1"),
        (
            {"clip_ratio": 0.2},
            r"importance_weight must be token or sequence .* clip_ratio=0.2. Giv",
        ),
        ({"include_current": False}, r"discount > 0 must hold without include_current, .* Use a p"),
        (
            {"hard_weight": 0, "soft_weight": 0, "sequence_weight": 0},
            r"hard_weight \+ soft_weight \+ sequence_weight > 0 must hold, .* Use a positive one",
        ),
        (
            {"student_share": 0},
            r"student_share > 0 must hold .* got student_share=0. Use a positiv",
        ),
        (
            {"sampling_temperature": 0.9},
            r"sampling_temperature = 1 must hold .* got sampling_temperature=0.9. Use importance_w",
        ),
        ({"sampling_top_p": 0.9}, r"sampling_top_p = 1 must .* got sampling_top_p=0.9. Use import"),
        (
            {"teacher_mix": 0.2},
            r"teacher_mix = 0 must hold .* teacher draws too, .* teacher_mix: 0",
        ),
        ({"refresh": 4}, r"refresh = 1 must hold .* moved on since it wrote, but got refresh=4"),
        ({"buffer_size": 64}, r"buffer_size = 0 must hold .* but got buffer_size=64"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    term: dict[str, Any] = (
        {} if message.startswith("discount belongs") else {"sequence_term": "kl_reward"}
    )
    term["student_share"] = 1
    with pytest.raises(ValueError, match=message):
        TrialConfig(**{**term, **fields})


def test_a_term_may_be_all_there_is() -> None:
    config = TrialConfig(sequence_term="kl_reward", hard_weight=0, soft_weight=0, student_share=1)
    assert config.sequence_weight == 1


def test_a_weight_allows_any_behaviour() -> None:
    text = {"sampling_temperature": 0.8, "sampling_top_p": 0.9, "teacher_mix": 0.2, "refresh": 4}
    for weight in ("token", "sequence"):
        fields = {"sequence_term": "kl_reward", "importance_weight": weight, "student_share": 0.5}
        assert TrialConfig(**fields, **text).importance_weight == weight
