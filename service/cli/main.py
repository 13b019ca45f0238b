"""The command line: adds the commands, in the order in which `--help` shows them."""

import gc

from service.cli import (
    asking,
    checking,
    cluster,
    evaluating,
    removing,
    reporting,
    rerun,
    serving,
    sweeps,
)
from service.cli.app import app, write_any_text
from service.cli.cache import group as cache_group

COMMANDS = (
    sweeps.plan,
    sweeps.run,
    asking.sweeps,
    asking.trials,
    asking.best,
    asking.compare,
    reporting.report,
    cluster.confirm,
    sweeps.presets,
    sweeps.schema,
    sweeps.init,
    checking.doctor,
    checking.check_loss,
    checking.rho_range,
    cluster.submit,
    cluster.status,
    cluster.logs,
    cluster.watch,
    cluster.stop,
    cluster.stop_trial,
    cluster.resume,
    cluster.extend,
    cluster.retry,
    rerun.rerun,
    rerun.export,
    rerun.promote,
    evaluating.evaluate,
    removing.delete,
    removing.prune,
    serving.serve,
)
# What a Ray job, or the service, calls; not for people.
INNER_COMMANDS = (cluster.drive, cluster.control, serving.drive_here)

for _command in (*COMMANDS, *INNER_COMMANDS):
    _name = _command.__name__.replace("_", "-")
    app.command(_name, hidden=_command in INNER_COMMANDS)(_command)
app.add_typer(cache_group, name="cache")
app.add_typer(serving.users, name="users")
app.add_typer(serving.tokens, name="tokens")


def main() -> None:
    """Runs the command line."""
    write_any_text()
    # A command answers and ends: what it reads is kept until then, and ten thousand trials would be
    # walked through again and again for garbage that is not there.
    gc.set_threshold(100_000, 20, 100)
    app(prog_name="kd-sweep")
