"""The commands that look before a sweep starts: at the machine, a divergence, a teacher's rho."""

from typing import Annotated

import typer

from service import actions
from service.cli import tables
from service.cli.app import AsJson, Overrides, Spec, errors, show, workspace_of


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Look at what sweeps need on this machine: what works, and what to do where it does not.

    Example: kd-sweep doctor
    """
    found = actions.doctor.examine(workspace_of(context))
    show([one.to_json() for one in found], tables.diagnoses_view(found), as_json)
    if any(one.needed and not one.works for one in found):
        raise typer.Exit(1)


def check_loss(
    context: typer.Context,
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Your divergence.")],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Give it a parameter.")
    ] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Run the contract tests of divergences on your own function.

    Example: kd-sweep check-loss my_losses:my_divergence --set alpha=0.3
    """
    found = actions.loss.check_loss(function, workspace_of(context), parameters=set_)
    show(found.to_json(), tables.checks_view(found), as_json)
    if not found.is_usable:
        raise typer.Exit(1)


def rho_range(
    context: typer.Context,
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Propose a range of CIST's rho from the teacher's entropies on a sample of the data.

    Example: kd-sweep rho-range cist
    """
    workspace = workspace_of(context)
    made = actions.plan.plan_sweep(spec, workspace, overrides=set_)
    report = actions.rho.propose_rho(made, workspace, on_progress=_show_stage)
    show(report.to_json(), tables.rho_view(report), as_json)


def _show_stage(stage: str, share: float) -> None:
    """Prints a stage's begin and end; what is between them is for a bar."""
    if share in (0.0, 1.0):
        errors().print(f"{stage} {share:.0%}")
