"""The command line: a click group whose commands are imported when they are called.

Exit codes: 0 done, 1 failed, 2 wrong usage, config or input, 3 a job ended with some questions failed,
130 interrupted and resumable.
"""

import contextlib
import os
import sys
from typing import Any, Final

import click

from ..errors import OpenRError
from .lazy_group import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "label": ("label:label", "Label the steps of solutions with a policy model."),
    "jobs": ("jobs:jobs", "List, watch and resume labeling jobs."),
    "import": ("exchange:import_", "Import questions or labelled processes into a dataset."),
    "export": ("exchange:export", "Write a dataset in a format of the field."),
    "ls": ("data:ls", "List the datasets of the store."),
    "show": ("data:show", "Describe a dataset: rows, label balance, methods."),
    "log": ("versions:log", "List the snapshots of a dataset."),
    "diff": ("versions:diff_", "List what differs between two snapshots."),
    "tag": ("versions:tag", "Name a snapshot for good, or list the tags."),
    "rollback": ("versions:rollback_", "Make a dataset what it was, as a new snapshot."),
    "sql": ("sql:sql", "Query a dataset with SQL."),
    "view": ("view:view_", "Show labelled steps in the terminal."),
    "publish": ("huggingface:publish_", "Put a snapshot on the Hugging Face Hub."),
    "pull": ("huggingface:pull_", "Download a published dataset from the Hub."),
    "verify": ("upkeep:verify_", "Read a whole dataset again and report what is wrong."),
    "compact": ("upkeep:compact_", "Rewrite the files of a dataset as a few sorted ones."),
    "gc": ("upkeep:gc_", "Remove old snapshots and files that nothing refers to."),
    "grade": ("grade:grade_", "Grade one answer against another."),
    "regrade": ("grade:regrade_", "Grade a dataset again: verdicts, counts and labels, without a policy."),
    "disagreements": ("grade:disagreements_", "List the answers on which two graders differ."),
    "compare": ("compare:compare_", "Compare the quality and the cost of labeling methods."),
    "consensus": ("consensus:consensus_", "Keep the solutions on whose first error several methods agree."),
    "train": ("train:train", "Train a reward model from a pinned snapshot."),
    "explain": ("explain:explain_", "Show a generative reward model's verdicts and reasons."),
    "eval": ("evaluate:evaluate", "Evaluate reward models and searches."),
    "catalog": ("catalog:catalog", "List what is built in: methods, backends, models, sources."),
    "doctor": ("doctor:doctor", "Check the installation and the store."),
}

ALIASES: Final = {"push": "publish"}


@click.group(cls=LazyGroup, table=COMMANDS, aliases=ALIASES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="openr-data", prog_name="openr-data")
@click.option(
    "--store",
    "-s",
    envvar="OPENR_STORE",
    default="./openr-store",
    show_default=True,
    metavar="FOLDER",
    help="Where datasets and jobs live (or OPENR_STORE).",
)
@click.pass_context
def cli(ctx: click.Context, store: str) -> None:
    """Process supervision as data: label every step of a solution, keep it versioned, query it.

    \b
    Examples:
      openr-data label                     label the built-in arithmetic world
      openr-data view arithmetic           look at the labelled steps
      openr-data sql arithmetic "select level, count(*) from first_errors group by 1"

    \b
    Exit codes: 0 done; 1 failed; 2 wrong usage, config or input; 3 some questions of a job failed;
    130 interrupted, resumable. OPENR_DEBUG=1 shows tracebacks.
    """
    ctx.obj = store


def main() -> None:
    """Run the command line and raise `SystemExit` with its exit code."""
    if os.environ.get("OPENR_DEBUG") == "1":
        cli(prog_name="openr-data")
        return
    try:
        code: Any = cli(prog_name="openr-data", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except SystemExit:
        # Without its standalone mode click leaves this way for a broken pipe alone: a reader that has gone
        # (head, less) is not a failure. Our commands raise `Exit`.
        code = 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except OpenRError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone: that is not a failure. Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        click.echo(f"{error.strerror or error}: {error.filename or 'the output'}.", err=True)
        code = 1
    except Exception as error:
        click.echo(
            f"Unexpected {type(error).__name__}: {error}. This is a bug of openr-data; run again with "
            "OPENR_DEBUG=1 for the traceback to report.",
            err=True,
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def run() -> None:
    """The console script: `main`, then out at once.

    Native threads of the table libraries that are still winding down can abort an interpreter that shuts down
    beside them ("terminate called without an active exception"), which turned finished commands into failures.
    Everything of ours is closed and flushed by now.
    """
    code: Any = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)
