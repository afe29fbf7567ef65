"""Writes a snapshot as a folder that `load_dataset` reads: sharded Parquet by configuration and split, and a manifest.

    data/records/train-00000-of-00003.parquet    question, process and one label set
    data/steps/…  data/questions/…  data/nodes/…  data/rollouts/…  data/search_nodes/…  data/scores/…
    data/jobs/…  data/solutions/… (without a label set)
    openr_data.json                               the snapshot's identity: a digest per table, which `pull` checks
    README.md                                     the card

The same snapshot gives the same bytes, so unchanged files are not sent again. Content-defined chunking has the same
effect within a file: only the changed chunks are sent.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..schema import SCHEMA_VERSION
from ..store import View, query, storage

MANIFEST: Final = "openr_data.json"
SHARD: Final = 1_000_000_000
"""Bytes of Arrow data per shard; the Parquet file has about a quarter of that."""
MEMORY: Final = "2GB"
_TRAIN: Final = "train"

QUERIES: Final[Mapping[str, str]] = {
    "records": """
        select r.*, s.n_tokens, s.revision as solution_revision, l.revision as label_revision
        from records r join solutions s using (question_id, solution_id, job_id) join labels l using (label_id)
        where r.split = $split order by question_id, solution_id, label_id""",
    "steps": "select * from steps where split = $split order by question_id, solution_id, label_id, step_index",
    "questions": "select * from questions where split = $split order by question_id",
    "solutions": """
        select s.* from solutions s join questions q using (question_id)
        where q.split = $split and not exists (
            from labels l where l.solution_id = s.solution_id and l.job_id = s.job_id)
        order by question_id, solution_id, job_id""",
    "nodes": """
        select n.* from nodes n join questions q using (question_id) where q.split = $split
        order by question_id, node_id, job_id""",
    "rollouts": """
        select r.* from rollouts r join questions q using (question_id) where q.split = $split
        order by question_id, rollout_id, job_id""",
    "search_nodes": """
        select n.* from search_nodes n join questions q using (question_id) where q.split = $split
        order by question_id, job_id, place""",
    "scores": """
        select s.* from scores s join questions q using (question_id) where q.split = $split
        order by question_id, node_id, reward""",
    "jobs": 'select * from job_events where $split = $split order by "at", job_id',
}
"""For each configuration, the query for the rows of one split."""


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one configuration and split."""

    config: str
    split: str
    files: tuple[str, ...]
    rows: int
    bytes: int
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class Layout:
    """A written folder and its contents."""

    folder: Path
    parts: tuple[Part, ...]
    manifest: Mapping[str, Any]
    card: str = field(default="", compare=False)

    def configs(self) -> list[dict[str, Any]]:
        """Return the `configs` of the card; `records` is the default one."""
        names = list(dict.fromkeys(part.config for part in self.parts))
        return [
            {
                "config_name": name,
                "data_files": [
                    {"split": part.split, "path": f"data/{name}/{part.split}-*.parquet"}
                    for part in self.parts
                    if part.config == name
                ],
                **({"default": True} if name == _default(names) else {}),
            }
            for name in names
        ]


def _default(names: Sequence[str]) -> str:
    return next(name for name in ("records", "questions", *names) if name in names)


def write_layout(view: View, folder: Path, snapshot: Mapping[str, Any], rollouts: bool = True) -> Layout:
    """Write the data of a snapshot into an empty folder. Raises `StoreError` for a full disk or a damaged dataset."""
    connection = view.connect(memory=MEMORY)
    splits = [str(row[0]) for row in connection.execute("select distinct split from questions order by 1").fetchall()]
    names = _split_names(splits)
    parts: list[Part] = []
    for config, statement in QUERIES.items():
        if config == "rollouts" and not rollouts:
            continue
        for split in splits if config != "jobs" else splits[:1]:
            text = statement.replace("$split", "'" + query.quoted(split) + "'")
            name = names[split] if config != "jobs" else _TRAIN
            try:
                part = _write(folder, config, name, connection.sql(text))
            except OSError as error:
                raise storage.storage_error(folder, error) from error
            if part is not None:
                parts.append(part)
    digests = query.table_digests(connection)
    if not rollouts:
        digests.pop("rollouts")
    manifest: dict[str, Any] = {
        **snapshot,
        "schema_version": SCHEMA_VERSION,
        "tables": digests,
        "splits": {name: split for split, name in names.items()},
        "rows": {f"{part.config}/{part.split}": part.rows for part in parts},
    }
    manifest["files"] = {name: _sha256(folder / name) for part in parts for name in part.files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Layout(folder, tuple(parts), manifest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _split_names(splits: Sequence[str]) -> dict[str, str]:
    """Map each split to a distinct name that `load_dataset` accepts: letters, digits and underscores only."""
    # Valid names stay unchanged; other splits get a name that does not collide with them.
    names = {split: split for split in splits if re.fullmatch(r"\w+", split, flags=re.ASCII)}
    for split in splits:
        if split in names:
            continue
        plain = re.sub(r"\W+", "_", split, flags=re.ASCII).strip("_") or _TRAIN
        name, number = plain, 2
        while name in names.values():
            name, number = f"{plain}_{number}", number + 1
        names[split] = name
    return names


def _write(folder: Path, config: str, split: str, rows: Any) -> Part | None:
    """Write the shards of one configuration and split; return None if it has no rows."""
    target = folder / "data" / config
    schema: pa.Schema | None = None
    written: list[Path] = []
    count = 0
    for table in _shards(rows):
        target.mkdir(parents=True, exist_ok=True)
        schema = table.schema
        path = target / f".{split}-{len(written):05d}.part"
        pq.write_table(
            table,
            path,
            compression="zstd",
            row_group_size=storage.ROW_GROUP,
            write_page_index=True,
            use_content_defined_chunking=True,
        )
        written.append(path)
        count += table.num_rows
    if schema is None:
        return None
    names: list[str] = []
    for number, path in enumerate(written):
        name = f"data/{config}/{split}-{number:05d}-of-{len(written):05d}.parquet"
        path.rename(folder / name)
        names.append(name)
    size = sum((folder / name).stat().st_size for name in names)
    return Part(config, split, tuple(names), count, size, schema)


def _shards(rows: Any) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in rows.to_arrow_reader(storage.ROW_GROUP):
        waiting.append(batch)
        size += batch.nbytes
        if size >= SHARD:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting and sum(batch.num_rows for batch in waiting):
        yield pa.Table.from_batches(waiting)
