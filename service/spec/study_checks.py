"""What a document may hold by its kind, and what would break the pairing of a study's cells.
Pure."""

from service.spec.document import OF_STUDIES, STUDY, SweepSpec
from service.spec.study import SEED, check_grids, seeds_in


def check_kind(spec: SweepSpec) -> None:
    """Raises `ValueError` for what documents of its kind do not have, and for a study whose cells
    would not be compared alike."""
    if spec.is_study:
        _check_study(spec)
        return
    alien = [name for name in OF_STUDIES if getattr(spec, name)]
    if alien:
        raise ValueError(
            f"{alien[0]}: only a study has it, but got it with kind: {spec.kind}. Add kind: "
            f"{STUDY}, or leave it out."
        )
    if not spec.search.written:
        raise ValueError(
            "search: must be given, but it is missing. Add it: kd-sweep init shows a whole spec."
        )


def _check_study(spec: SweepSpec) -> None:
    if bool(spec.cells) == bool(spec.search.written):
        got = "both" if spec.cells else "neither"
        raise ValueError(
            f"cells: a study has either cells or a search whose full grid they are, but got {got}. "
            "Write cells: [{divergence: [forward_kl, reverse_kl], tau: [1, 2, 4]}]."
        )
    check_grids(spec.cells, spec.search)
    _check_no_sampler(spec)
    given = spec.given()
    if SEED in given:
        raise ValueError(
            f"training.seed: a study lists its seeds, but got one for all ({given[SEED]}). Write "
            f"seeds: [{given[SEED]}, …] in its place."
        )
    _check_tuning(spec)


def _check_no_sampler(spec: SweepSpec) -> None:
    given = spec.model_fields_set
    if "sampler" in given:
        raise ValueError(
            "sampler: a study has none, since each of its cells is trained, but got "
            f"{spec.sampler.kind}. Leave it out."
        )
    if "trials" in given and spec.trials is not None:
        raise ValueError(
            "trials: a study has as many as cells times seeds, but got a number of its own "
            f"({spec.trials}). Leave it out."
        )
    if spec.early_stopping.kind != "none":
        raise ValueError(
            "early_stopping: the trials of a study train to one budget, but got "
            f"{spec.early_stopping.kind}. Leave it out."
        )


def _check_tuning(spec: SweepSpec) -> None:
    tune = spec.tune
    if tune is None:
        return
    if tune.seed in seeds_in(spec.seeds):
        raise ValueError(
            "tune.seed: must be none of the seeds that are compared, which would favour what was "
            f"tuned on it, but got {tune.seed}. Use another one, or leave it out."
        )
    if len(spec.objective) > 1:
        raise ValueError(
            "tune: the best learning rate is that of one objective, but got "
            f"{len(spec.objective)}. Name one objective, or leave tune out."
        )
    if len(set(tune.learning_rate)) < len(tune.learning_rate):
        raise ValueError(
            "tune.learning_rate: its values must differ, but got "
            f"{list(tune.learning_rate)}. Remove one."
        )
    rate = "learning_rate"
    if rate in spec.given() or rate in spec.varied_names():
        raise ValueError(
            f"tune.{rate}: a learning rate is either tuned or given, but got it in both places. "
            "Remove one."
        )
