"""What TrialConfig fills in and refuses about the loss, with the place, the rule and the value."""

import pytest

from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.rules import parameter_owners
from trainers.trial.traits import Policy


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_defaults_are_written_out(name: str) -> None:
    for policy in DIVERGENCES[name].policies:
        config = TrialConfig(divergence=name, policy=policy)
        rows = {**DIVERGENCES[name].parameters, **POLICIES[policy].parameters}
        for parameter, row in rows.items():
            if row.default is not None:
                assert getattr(config, parameter) == row.default
        assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_defaults_of_the_design() -> None:
    assert TrialConfig(divergence="skew_forward_kl").alpha == 0.1
    assert TrialConfig(divergence="adaptive_kl").head_mass == 0.5
    config = TrialConfig(divergence="alpha_beta")
    assert (config.alpha, config.beta) == (0.2, 0.7)
    assert (config.hard_weight, config.soft_weight) == (0.1, 0.9)
    assert (config.tau_min, config.tau_max) == (None, None)
    clamped = TrialConfig(policy="cist")
    assert (clamped.tau_min, clamped.tau_max) == (1e-3, 1e3)
    assert TrialConfig(divergence="centred_mse").policy == Policy.NONE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"divergence": "forward_lk"}, r"divergence must be one of .* 'forward_lk'.*'forward_kl'"),
        (
            {"divergence": "generalized_jsd", "beta": 1.2},
            r"beta <= 1.0 must hold, but got beta=1.2",
        ),
        ({"divergence": "skew_forward_kl", "alpha": 1.0}, r"alpha <= 0.99 .* but got alpha=1.0"),
        ({"divergence": "adaptive_kl", "head_mass": -0.1}, r"head_mass .* but got head_mass=-0.1"),
        ({"divergence": "forward_kl", "beta": 0.5}, r"beta belongs to .* but got beta=0.5 with"),
        ({"divergence": "skew_forward_kl", "detach_mixture": True}, r"belongs to skew_reverse_kl"),
        ({"policy": "cist", "tau": 2.0}, r"tau belongs to .* policy 'cist'"),
        ({"policy": "fixed", "rho": 2.0}, r"rho belongs to cist, but got rho=2.0"),
        ({"policy": "fixed", "weight_by_power_sum": True}, r"belongs to fixed_teacher, but got"),
        ({"policy": "cist", "rho": 2.0, "rho_per_log_vocab": 1.0}, r"exactly one of rho and"),
        ({"policy": "fixed_teacher", "scaling": "tau_squared"}, r"must be one of none, but got"),
        ({"policy": "cist", "scaling": "tau_squared"}, r"policy 'cist' must be one of none, teach"),
        (
            {"policy": "cist", "hard_weight": 0.0},
            r"hard_weight > 0 .* allow_free_logit_scale: true",
        ),
        ({"policy": "logit_standardization", "hard_weight": 0.0}, r"hard_weight > 0 must hold"),
        ({"divergence": "jeffreys", "policy": "curriculum"}, r"'jeffreys' goes with policy .* got"),
        (
            {"divergence": "a:b", "policy": "curriculum"},
            r"'curriculum' must have a shipped .* 'a:b'",
        ),
        (
            {"divergence": "centred_mse", "policy": "fixed"},
            r"goes with policy none, but got policy",
        ),
        ({"policy": "none"}, r"'forward_kl' goes with policy .* but got policy 'none'"),
        ({"tau": 0.0}, r"0.001 <= tau <= 1000.0 must hold, but got tau=0.0"),
        ({"tau": True}, r"tau\n.*must be a number, but got True"),
        ({"hard_weight": True}, r"hard_weight\n.*must be a number, but got True"),
        ({"batch_size": True}, r"batch_size\n.*must be a number, but got True"),
        ({"divergence": "a:b", "gamma": float("nan")}, r"gamma\n.*finite number"),
        ({"divergence": "a:b", "gamma": float("inf")}, r"gamma\n.*finite number"),
        ({"hard_weight": 0, "soft_weight": 0}, r"hard_weight \+ soft_weight > 0 .* got both 0"),
        (
            {"divergence": "decoupled", "target_weight": 0, "non_target_weight": 0},
            r"target_weight \+ non_target_weight > 0 must hold, .* but got both 0",
        ),
        (
            {"divergence": "interpolated", "mix_start": 0, "mix_end": 0},
            r"mix_end > 0 must hold, .* but got mix_end=0",
        ),
        ({"tau_max": 2.0}, r"tau_max belongs to cist, .*token_adaptive, but got tau_max=2.0 with"),
        ({"policy": "curriculum", "tau_min": 2.0}, r"tau_min belongs to .* policy 'curriculum'"),
        ({"divergence": "a:b", "tau_min": 2.0}, r"tau_min belongs to .* policy 'fixed'"),
        (
            {"policy": "cist", "tau_min": 2.0, "tau_max": 1.0},
            r"tau_min <= tau_max must hold, but got tau_min=2.0",
        ),
        (
            {"divergence": "interpolated", "mix_start": 0.9, "mix_end": 0.5},
            r"mix_start <= mix_end must hold, but got mix_start=0.9, mix_end=0.5",
        ),
        ({"divergence": "concrete_score", "weighting": "teacher"}, r"'uniform_student'"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.model_validate(fields)


def test_free_logit_scale_can_be_allowed() -> None:
    config = TrialConfig(policy="cist", hard_weight=0.0, allow_free_logit_scale=True)
    assert config.hard_weight == 0.0


def test_every_parameter_names_its_owners() -> None:
    owners = parameter_owners()
    assert owners["beta"] == ["generalized_jsd", "alpha_beta", "stepwise_jsd"]
    assert owners["rho"] == ["cist"]
    assert all(TrialConfig.model_fields[name].description for name in owners)
