"""Commands about datasets: import, ls, show."""

from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..ids import config_id
from ..registry import FORMATS, SOURCES, load
from ..store.dataset import Store
from ..store.refs import DatasetName
from .output import Output, ago, hint, note, output_options, size


@click.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "format_",
    type=click.Choice(sorted(FORMATS)),
    default="questions",
    show_default=True,
    help="The format of the file.",
)
@click.option("--split", default="", help="The split to write on every question.")
@click.option("--source", default="", help="Where the questions come from (default: NAME).")
@click.pass_obj
def import_(store: str, /, name: str, file: Path, format_: str, split: str, source: str) -> None:
    """Bring questions from FILE into the dataset NAME.

    Questions that are there already are left as they are. A row that is not a question stops the import and
    nothing is written.

    \b
    Example:
      openr-data import math train.jsonl
    """
    from ..jobs.rows import question_row

    DatasetName.parse(name)
    if name in SOURCES:
        raise UsageError(f"{name!r} is a built-in source, which `label {name}` means. Choose another name.")
    rows = [question_row(item) for item in load("format", format_)(file, source or name, split)]
    empty = sum(not row["answer"].strip() for row in rows)
    dataset = Store.open(store, create=True).dataset(name, create=True)
    options = {"file": str(file), "format": format_, "split": split, "source": source}
    job = config_id({**options, "ids": [row["question_id"] for row in rows]})
    added = dataset.add_questions(rows, f"{job}/questions", 1)
    snapshot = dataset.snapshot("import", f"{added} questions from {file.name}", job)
    note(
        f"{added:,} questions added to {name}, {len(rows) - added:,} were there already or repeated"
        + (f"; {empty:,} have no gold answer and cannot be labelled" if empty else "")
        + "."
    )
    click.echo(f"{name}@{snapshot.name}")
    hint(f"Label them with: openr-data label {name} --method omegaprm --policy MODEL")


@click.command()
@output_options
@click.pass_obj
def ls(store: str, /, out: Output) -> None:
    """List the datasets of the store."""
    opened = Store.open(store)
    rows: list[dict[str, Any]] = []
    for name in opened.names():
        dataset = opened.dataset(name)
        snapshots = dataset.snapshots()
        counts = dict(snapshots[-1].counts) if snapshots else dataset.view().counts()
        bytes_ = dataset.size()
        rows.append(
            {
                "name": name,
                "questions": counts["questions"],
                "solutions": counts["solutions"],
                "steps": counts["steps"],
                "rollouts": counts["rollouts"],
                "snapshot": snapshots[-1].name if snapshots else "",
                "age": ago(snapshots[-1].created_at) if snapshots else "",
                "size": size(bytes_) if out.is_human else bytes_,
            }
        )
    columns = ("name", "questions", "solutions", "steps", "rollouts", "snapshot", "age", "size")
    out.rows(rows, columns)
    if out.is_human and not rows:
        hint("No dataset yet. Make one with: openr-data label")


@click.command()
@click.argument("name")
@output_options
@click.pass_obj
def show(store: str, /, name: str, out: Output) -> None:
    """Describe the dataset NAME or NAME@ref: rows, label balance, methods, policies."""
    view = Store.open(store).view(name)
    methods = view.sql(
        "select method, completer as policy, count(*) as label_sets, sum(len(label))::bigint as steps, "
        "sum(len(list_filter(label, lambda x: x = 1)))::bigint as good, "
        "sum(len(list_filter(label, lambda x: x = -1)))::bigint as bad, "
        "count(first_error) as first_errors "
        "from labels group by all order by 1, 2"
    ).to_pylist()
    outcomes = view.sql("select verdict, count(*) as rollouts from rollouts group by 1 order by 2 desc").to_pylist()
    facts = {"dataset": name, **view.counts(), "digest": view.digest()}
    if not out.is_human:
        out.facts({**facts, "methods": methods, "verdicts": outcomes})
        return
    out.facts(facts)
    for rows in (methods, outcomes):
        if rows:
            click.echo()
            out.rows(rows)
    hint(f"Look at the steps with: openr-data view {name}")
