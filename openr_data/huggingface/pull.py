"""Pulls a published dataset into a store: the inverse of `publish`, with a check of every file, digest and id.

The tables are rebuilt from the files. Before any row is written, all ids are hashed again and the digests must match
the manifest. Rows that the dataset already has are skipped; a higher revision supersedes a row.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..engine.in_thread import in_thread
from ..errors import InputError, MissingRef, StoreError
from ..ids import config_id
from ..schema import KEYS, SCHEMA_VERSION, TABLES
from ..store import Dataset, Snapshot, Store, query
from ..store.verify import ids_are_right
from .client import KIND, as_hub_error, hub_api
from .layout import MANIFEST

BATCH: Final = 50_000
CONFIGS: Final = ("questions", "records", "solutions", "nodes", "rollouts", "search_nodes", "scores", "jobs")
"""The published configurations that the tables are made from."""

_SOURCES: Final[Mapping[str, str]] = {
    "questions": "select * from read_parquet($questions)",
    "solutions": """
        (select distinct on (solution_id, job_id) solution_id, question_id, steps, n_steps, final_answer, outcome,
                generator, n_tokens, job_id, solution_revision as revision, solution_metadata as metadata
         from read_parquet($records) order by solution_id, job_id)
        union all by name select * from read_parquet($solutions)""",
    "labels": """
        select label_id, solution_id, question_id, method, completer, job_id, label, value, n_correct, n_rollouts,
               provenance, node_id, first_error, label_revision as revision, label_metadata as metadata
        from read_parquet($records)""",
    "nodes": "select * from read_parquet($nodes)",
    "rollouts": "select * from read_parquet($rollouts)",
    "search_nodes": "select * from read_parquet($search_nodes)",
    "scores": "select * from read_parquet($scores)",
    "jobs": "select * from read_parquet($jobs)",
}
"""How each table is rebuilt from the published configurations."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull: rows added by table, and the new snapshot."""

    dataset: str
    revision: str
    added: Mapping[str, int]
    snapshot: Snapshot


def pull(store: str | Path, repo: str, revision: str = "", into: str = "") -> Pulled:
    """Pull `ORG/NAME` into the dataset `into` (default: its published name) of a store, creating both if needed.

    Raises `HubError`, `InputError` for a repository that `publish` did not write, and `StoreError` if the files differ
    from those that were published; then nothing is written.
    """
    folder = Path(tempfile.mkdtemp(prefix="openr-pull-"))
    try:
        Store.at(store)
        commit = _download(repo, revision, folder)
        manifest = _manifest(folder, repo)
        _check_files(folder, manifest, repo)
        connection = duckdb.connect(":memory:")
        try:
            _open(connection, folder)
            _check(connection, manifest, repo)
            dataset = Store.open(store, create=True).dataset(into or str(manifest["dataset"]), create=True)
            return _write(connection, dataset, manifest, repo, commit)
        except duckdb.Error as error:
            raise StoreError(
                f"The files of {repo} differ from those that were published: {' '.join(str(error).split())[:200]}"
            ) from error
        finally:
            connection.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


pull_async = in_thread(pull)
"""`pull` for code that is in an event loop already, such as a notebook."""


def _download(repo: str, revision: str, folder: Path) -> str:
    from huggingface_hub.errors import RevisionNotFoundError

    with as_hub_error(repo, "reading"):
        api = hub_api()
        try:
            commit = str(api.dataset_info(repo, revision=revision or None).sha)
        except RevisionNotFoundError as error:
            refs = api.list_repo_refs(repo, repo_type=KIND)
            names = ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
            raise MissingRef(
                f'No revision "{revision}" of {repo} on the Hub (there are: {names}). Choose one of those: '
                f"openr-data pull {repo}@REVISION"
            ) from error
        api.snapshot_download(
            repo, repo_type=KIND, revision=commit, local_dir=folder, allow_patterns=["data/**", MANIFEST]
        )
    return commit


def _manifest(folder: Path, repo: str) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{repo} was not published by openr-data: it has no {MANIFEST}. Import its rows with: "
            f"openr-data import NAME hf:{repo}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = int(manifest["schema_version"])
        kinds = {"tables": dict, "files": dict, "dataset": str, "snapshot": str, "digest": str}
        if not all(isinstance(manifest[name], kind) for name, kind in kinds.items()):
            raise ValueError("not a manifest")
        if not set(manifest["tables"]) >= {"questions", "solutions", "nodes", "labels"}:
            raise ValueError("not all tables")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{MANIFEST} of {repo} is damaged. Publish the dataset again.") from error
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{repo} has schema version {version}, newer than {SCHEMA_VERSION}, which this openr-data reads. Update "
            "with: pip install -U openr-data"
        )
    return dict(manifest)


def _check_files(folder: Path, manifest: Mapping[str, Any], repo: str) -> None:
    """Check every file against its hash. Raises `StoreError` if one is missing or differs."""
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise StoreError(f"{repo} is incomplete: it lacks {name}. Nothing was written.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise StoreError(
                    f"{name} of {repo} is not the published file: it was changed or is damaged. Nothing was written."
                )


def _open(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Rebuild the tables as views over the files."""
    connection.execute("set enable_progress_bar = false")
    configs = {path.name for path in (folder / "data").iterdir()} if (folder / "data").is_dir() else set()
    for config in CONFIGS:
        files = sorted((folder / "data" / config).glob("*.parquet")) if config in configs else []
        # A table without rows has no file; an empty table supplies its columns.
        listed = "[" + ", ".join(f"'{query.quoted(str(file))}'" for file in files) + "]"
        definition = f"select * from read_parquet({listed}, union_by_name = true)"
        if not files:
            connection.register(f"empty_{config}", _empty(config))
            definition = f"select * from empty_{config}"
        connection.execute(f"create view published_{config} as {definition}")
    for table, statement in _SOURCES.items():
        text = statement
        for config in CONFIGS:
            text = text.replace(f"read_parquet(${config})", f"published_{config}")
        columns = ", ".join(f'"{name}"' for name in TABLES[table].names)
        connection.execute(f'create view "{table}" as select {columns} from ({text})')


def _empty(config: str) -> pa.Table:
    if config != "records":
        return TABLES[config].empty_table()
    fields = {field.name: field for table in ("solutions", "labels") for field in TABLES[table]}
    for table, name in (("solutions", "solution"), ("labels", "label")):
        for column in ("revision", "metadata"):
            fields[f"{name}_{column}"] = TABLES[table].field(column).with_name(f"{name}_{column}")
    return pa.schema(list(fields.values())).empty_table()


def _check(connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], repo: str) -> None:
    """Check digests and ids. Raises `StoreError` if a digest differs or an id is not the hash of its content."""
    try:
        digests = query.table_digests(connection)
        whole = query.digest(connection, str(manifest["digest"]))
    except StoreError as error:
        raise StoreError(f"A file of {repo} is damaged: {error.__cause__}. Nothing was written.") from error
    # The overall digest includes the rollouts, so without them only the digests of the tables can match.
    if "rollouts" in manifest["tables"] and whole != manifest["digest"]:
        raise StoreError(
            f"{repo} is not the snapshot that its {MANIFEST} names: the digest is {whole}, expected "
            f"{manifest['digest']}. Nothing was written."
        )
    for table, digest in manifest["tables"].items():
        if digests.get(table) != digest:
            rows = str(digest).partition(":")[0]
            raise StoreError(
                f"The {table} of {repo} differ from those that were published ({rows} rows): they were changed or are "
                "incomplete. Nothing was written."
            )
    for table, count, examples in ids_are_right(connection):
        raise StoreError(
            f"{count:,} ids of {table} of {repo} are not the hash of their content ({', '.join(examples)}). Nothing "
            "was written."
        )


def _write(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, manifest: Mapping[str, Any], repo: str, commit: str
) -> Pulled:
    job = config_id({"pull": repo, "digest": manifest["digest"]})
    added: dict[str, int] = {}
    with dataset.hold(exclusive=False):
        for table in TABLES:
            added[table] = 0
            files = dataset.view().files(table)
            for batch in _missing(connection, table, files):
                app = f"{job}/{table}"
                seq = dataset.committed(table, app) + 1
                added[table] += (
                    dataset.add_questions(batch, app, seq)
                    if table == "questions"
                    else dataset.append(table, batch, app, seq)
                )
    snapshot = dataset.snapshot("pull", f"{repo}@{commit[:12]}, snapshot {manifest['snapshot']} there", job)
    return Pulled(dataset.name, commit, added, snapshot)


def _missing(connection: duckdb.DuckDBPyConnection, table: str, files: list[str]) -> Iterator[pa.Table]:
    """Yield the published rows that the dataset lacks or holds at a lower revision."""
    key = ", ".join(f'"{name}"' for name in KEYS[table])
    revised = "revision" in TABLES[table].names
    statement = f'select * from "{table}"'
    if files:
        held = query.connect_files({table: files})
        revision = ", coalesce(revision, 0) as held_revision" if revised else ""
        connection.register("held", held.sql(f'select {key}{revision} from "{table}"').to_arrow_table())
        newer = "and h.held_revision >= coalesce(p.revision, 0)" if revised else ""
        same = " and ".join(f'h."{name}" is not distinct from p."{name}"' for name in KEYS[table])
        statement = f'select p.* from "{table}" p where not exists (from held h where {same} {newer})'
    reader = connection.sql(statement).to_arrow_reader(BATCH)
    for batch in reader:
        if batch.num_rows:
            yield pa.Table.from_batches([batch])
