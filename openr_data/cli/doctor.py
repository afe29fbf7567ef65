"""`openr-data doctor`: checks that everything a job needs works here."""

import click

from ..diagnosis import diagnose
from .output import Output, output_options


@click.command()
@output_options
@click.pass_obj
def doctor(store: str, /, out: Output) -> None:
    """Check the installation, the accelerator, the shipped policy and the store.

    Exit code 1 if something that is installed does not work; an optional package may be absent.
    """
    checks = list(diagnose(store))
    out.rows([{"check": check.name, "state": check.state, "found": check.found} for check in checks])
    if any(check.state == "problem" for check in checks):
        raise click.exceptions.Exit(1)
