"""The search in words: one row for each hyperparameter, as `plan` shows it. Pure."""

import math

from search_spaces.domains import Choice, Domain, Fixed, Float, Int
from service.spec.document import SweepSpec
from trainers.trial.catalogue import POLICIES

# Each way to write a policy's ratio, with the other one.
RHOS = {
    one: other
    for traits in POLICIES.values()
    for name, parameter in traits.parameters.items()
    if parameter.instead_of
    for one, other in ((parameter.instead_of, name), (name, parameter.instead_of))
}


def search_rows(spec: SweepSpec, vocab_size: int | None) -> list[dict[str, str]]:
    """Returns one row a hyperparameter: `name`, `domain` and `condition` in words; and one of a rho
    that is not searched. vocab_size: None while it is not known."""
    space, given = spec.search, spec.given()
    rows = space.explain()
    for row in rows:
        row["domain"] += _rho_in_words(row["name"], space.domains[row["name"]], vocab_size)
    if spec.cells:
        rows = [_row_of_cells(name, spec, vocab_size) for name in spec.varied_names()]
    for name in RHOS:
        if name in given:
            words = _rho_in_words(name, Fixed(fixed=given[name]), vocab_size)
            rows.append({"name": name, "domain": f"given: {given[name]}{words}", "condition": ""})
    return rows + _default_rho(spec, vocab_size)


def _row_of_cells(name: str, spec: SweepSpec, vocab_size: int | None) -> dict[str, str]:
    """The row of a name in which a study's cells differ, or which some of them have."""
    values = dict.fromkeys(point[name] for point in spec.points() if point.get(name) is not None)
    words = f"one of {', '.join(map(str, values))}" if values else "not given"
    if name in RHOS and values:
        words += _rho_in_words(name, Choice(choice=tuple(values)), vocab_size)
    return {"name": name, "domain": words, "condition": ""}


def _default_rho(spec: SweepSpec, vocab_size: int | None) -> list[dict[str, str]]:
    """The row of the rho that a policy has where the sweep says none."""
    name, given = "rho_per_log_vocab", spec.given()
    points = [point for point in spec.points() if not RHOS.keys() & {*point, *given}]
    found = [
        one for one in map(spec.trial_config, points) if name in POLICIES[one.policy].parameters
    ]
    if not found:
        return []
    default = found[0].rho_per_log_vocab or 1.0
    words = _rho_in_words(name, Fixed(fixed=default), vocab_size)
    policies = " or ".join(dict.fromkeys(str(one.policy) for one in found))
    condition = f"policy is {policies}" if "policy" in spec.search.domains else ""
    return [{"name": name, "domain": f"default: {default}{words}", "condition": condition}]


def _rho_in_words(name: str, domain: Domain, vocab_size: int | None) -> str:
    """Returns what the values of rho are in units of ln V, or the other way round, for V =
    vocab_size; empty for another name, or a vocabulary that is not known yet."""
    if name not in RHOS or vocab_size is None:
        return ""
    factor = math.log(vocab_size) if name == "rho_per_log_vocab" else 1 / math.log(vocab_size)
    values = [f"{float(value) * factor:.3g}" for value in domain.points(2)]
    between = " to " if isinstance(domain, Float | Int) else ", "
    return f" ({RHOS[name]} {between.join(values)})"
