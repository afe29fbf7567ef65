"""Keeps the solutions on whose first error several methods agree: reads the label sets, reports, writes."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..exchange.export_file import write_file
from ..registry import SOURCES
from ..store import Store
from ..store.refs import DatasetName
from .consensus import Consensus, Join


def keep_agreed(
    store: Store,
    dataset: str,
    methods: Sequence[str],
    *,
    into: str = "",
    report: Path | None = None,
    dry_run: bool = False,
) -> Consensus:
    """Join the label sets of `dataset` (`NAME` or `NAME@ref`) and write those that agree, under `consensus`.

    `methods` are two or more methods, jobs or `METHOD/JOB`. The result goes `into` a dataset (default: the same one)
    unless nothing agrees or it is a `dry_run`; `report` lists every discarded solution as JSONL. The same call again
    adds nothing. Raises `UsageError`, `UnknownName`, `MissingRef` and `StoreError`.
    """
    name = DatasetName.parse(dataset).name
    target = into or name
    if "@" in target:
        raise UsageError(f"What is kept goes to the newest state of a dataset: --into {target.partition('@')[0]}.")
    if into in SOURCES and into != name:
        raise UsageError(f"{into!r} is a built-in source, which `label {into}` means. Choose another name.")
    DatasetName.parse(target)
    join = Join(store.view(dataset), methods)
    if report is not None:
        write_file(report, join.discarded())
    if join.found.kept and not dry_run:
        join.write(store.dataset(target, create=True))
    return join.found
