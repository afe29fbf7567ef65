"""Imports rows of a format into a dataset, in bounded memory, each thing once.

Rows stream from the file through the format into batches of columns; a batch is one transaction a table, facts first.
Rows that the dataset already holds are skipped, so that the same import, repeated after a kill, adds what is missing.
A label set that is stored with other labels is superseded by the new one and shows as relabelled in `diff`. Memory
grows by some hundred bytes a record, for the ids seen.
"""

import gc
import json
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from ..engine.versions import versions
from ..errors import InputError
from ..ids import config_id, content_hash, label_id, process_ids, question_id
from ..schema import LABELS, QUESTIONS, SOLUTIONS
from ..store import Dataset, Snapshot, View, storage
from ..store.refs import now
from ..store.rows import question_row, record_label, record_lists, record_solution
from ..types import Question, Record
from .formats.files import PlacedRow
from .formats.format import BadRow, Format, Tally

BATCH: Final = 20_000
"""The most records in one transaction."""

MAX_STEPS: Final = 32_000
"""The most steps of a process, which the 16-bit column of the first error can count."""
MAX_LETTERS: Final = 32 * 2**20
"""The most letters of steps in one transaction: long processes are committed in smaller batches."""

_SEEN: Final = (-1, 0)


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """The identity of an import. The same import adds only new rows; one that differs is another job.

    `gold_from` names the dataset whose gold answers fill in missing ones, if any.
    """

    format: str
    source: str
    split: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    gold_from: str = ""

    def job_id(self) -> str:
        """The id of the job: 12 hex digits."""
        gold = {"gold_from": self.gold_from} if self.gold_from else {}
        return config_id({"import": self.format, "source": self.source, "split": self.split, **gold, **self.options})


@dataclass(slots=True)
class Imported:
    """The result of an import: rows read, and how many things were new, relabelled, or stored already."""

    tally: Tally
    questions: int = 0
    solutions: int = 0
    labels: int = 0
    relabelled: int = 0
    repeated: int = 0
    without_gold: int = 0
    snapshot: Snapshot | None = None

    @property
    def read(self) -> int:
        """The number of rows that could be read."""
        return self.tally.rows - sum(self.tally.dropped.values())


class GoldAnswers:
    """The gold answers of the questions of a dataset by their text, to fill in those that an import lacks.

    Two texts are the same if they are equal after white space is collapsed. A text with several answers has none. Of
    the questions without an answer, `filled` counts those that got one, `ambiguous` those whose text has several, and
    `absent` those whose text the dataset does not hold; each counts once. Memory grows by some hundred bytes a
    question.
    """

    def __init__(self, view: View) -> None:
        self.filled = self.ambiguous = self.absent = 0
        self._answers: dict[str, str | None] = {}
        self._given: dict[str, tuple[str, str] | None] = {}
        rows = view.connect().sql("select question, answer from questions where answer <> '' order by question_id")
        for batch in rows.to_arrow_reader(50_000):
            for text, answer in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                gold = answer.strip()
                earlier = self._answers.setdefault(_text_id(text), gold) if gold else None
                if earlier is not None and _collapsed(earlier) != _collapsed(gold):
                    self._answers[_text_id(text)] = None

    def fill(self, item: Question | Record) -> Question | Record:
        """The item, with a gold answer filled in if it had none and the dataset has one."""
        question = item.question if isinstance(item, Record) else item
        if question.has_gold:
            return item
        if question.question_id not in self._given:
            self._given[question.question_id] = self._look_up(question.question)
        given = self._given[question.question_id]
        if given is None:
            return item
        made = replace(question, question_id=given[0], answer=given[1])
        return replace(item, question=made) if isinstance(item, Record) else made

    def _look_up(self, text: str) -> tuple[str, str] | None:
        """The id of the question with its answer, and the answer."""
        name = _text_id(text)
        answer = self._answers.get(name)
        self.filled += answer is not None
        self.ambiguous += answer is None and name in self._answers
        self.absent += name not in self._answers
        return None if answer is None else (question_id(text, answer), answer)


def _text_id(text: str) -> str:
    return content_hash("text", _collapsed(text))


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def read_items(form: Format, rows: Iterable[PlacedRow], tally: Tally) -> Iterator[Question | Record]:
    """The questions and records of rows; rows that cannot be read are counted with their reason."""
    for place, row in rows:
        tally.rows += 1
        tally.place = place
        if isinstance(row, str):
            tally.drop(row)
            continue
        try:
            yield from form.read(row, tally)
        except BadRow as error:
            tally.drop(str(error))


def check_rows(tally: Tally, source: str) -> None:
    """Raises `InputError` if a row was dropped or repaired."""
    wrong = tally.dropped + tally.repaired
    if wrong:
        reason, count = wrong.most_common(1)[0]
        where = ", ".join(tally.places[reason])
        raise InputError(
            f"{source}: {sum(wrong.values()):,} of {tally.rows:,} rows are not as they should be, {count:,} of them: "
            f"{reason} ({where}). Nothing was written. Without --strict such rows are dropped or mended, and counted."
        )


def import_rows(
    dataset: Dataset,
    config: ImportConfig,
    form: Format,
    rows: Iterable[PlacedRow],
    name: str,
    tell: Callable[[str, str, str], None] | None = None,
    gold: GoldAnswers | None = None,
) -> Imported:
    """Write the rows of a file into a dataset and take a snapshot; `tell` is called for every dropped or repaired row.

    `gold` answers fill in those that the file lacks, before the ids are made.

    Raises `StoreError`, and `InputError` for a file that breaks off. The rows before the break are committed then, and
    the same command adds the rest.
    """
    with storage.lock(dataset.path / "import.lock", exclusive=True):
        writer = _Writer(dataset, config)
        imported = writer.imported
        imported.tally.report = tell
        with _busy():
            try:
                for item in read_items(form, rows, imported.tally):
                    item = item if gold is None else gold.fill(item)
                    if isinstance(item, Record):
                        writer.add_record(item)
                    else:
                        writer.add_question(item)
            finally:
                writer.close()
        if imported.tally.rows and not imported.read:
            reason, _ = imported.tally.dropped.most_common(1)[0]
            raise InputError(
                f"No row of {name} could be read as {config.format}: {reason} ({imported.tally.places[reason][0]}). "
                "See the formats with: openr-data catalog ls"
            )
        writer.note_end(name)
        parts = [
            (imported.questions, "questions"),
            (imported.labels, "label sets"),
            (imported.relabelled, "relabelled"),
        ]
        message = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "nothing new"
        imported.snapshot = dataset.snapshot("import", f"{message} from {name}", config.job_id())
    return imported


@contextmanager
def _busy() -> Iterator[None]:
    """Settings of the interpreter for one thread that makes millions of objects while another one commits."""
    collects, interval = gc.isenabled(), sys.getswitchinterval()
    # An import makes no reference cycles, and looking for them among millions of rows took a tenth of the time.
    gc.disable()
    # A commit releases and takes the interpreter lock a hundred times, and by default waits 5 ms for it each time.
    # That took longer than reading the rows of the next batch, which then waited.
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collects:
            gc.enable()


class _Writer:
    """Collects rows and commits them in batches."""

    def __init__(self, dataset: Dataset, config: ImportConfig) -> None:
        self._dataset, self._job = dataset, config.job_id()
        self.imported = Imported(Tally())
        self._config = config
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._asked: set[int] = set()
        self._clear()
        self._known_solutions, self._known_labels = self._known()

    def _clear(self) -> None:
        self._questions: dict[str, Question] = {}
        self._solutions: list[tuple[Any, ...]] = []
        self._labels: list[tuple[Any, ...]] = []
        self._letters = 0

    def _known(self) -> tuple[set[int], dict[int, tuple[int, int]]]:
        """The solutions that an earlier run of this import wrote, and its label sets with revision and content."""
        solutions: set[int] = set()
        labels: dict[int, tuple[int, int]] = {}
        if not any(self._dataset.committed(table, f"{self._job}/{table}") for table in ("solutions", "labels")):
            return solutions, labels
        connection = self._dataset.view().connect()
        where = f"where job_id = '{self._job}'"
        for batch in connection.sql(f"select solution_id from solutions {where}").to_arrow_reader(50_000):
            solutions.update(int(item, 16) for item in batch.column(0).to_pylist())
        columns = (
            "label_id, coalesce(revision, 0), coalesce(metadata, '{}'), label, value, n_correct, n_rollouts, provenance"
        )
        for batch in connection.sql(f"select {columns} from labels {where}").to_arrow_reader(50_000):
            for name, revision, metadata, *lists in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                labels[int(name, 16)] = (revision, _mark(metadata, *lists))
        return solutions, labels

    def add_question(self, question: Question) -> None:
        """Add a question, once."""
        mark = int(question.question_id, 16)
        if mark not in self._asked:
            self._asked.add(mark)
            self._questions[question.question_id] = question
            self.imported.without_gold += not question.has_gold
            if len(self._questions) >= BATCH:
                self.flush()

    def add_record(self, record: Record) -> None:
        """Add a record: its question, its process, its label set."""
        if len(record.steps) > MAX_STEPS:
            self.imported.tally.drop(f"more than {MAX_STEPS:,} steps")
            return
        self.add_question(record.question)
        question = record.question.question_id
        solution, nodes = process_ids(question, record.steps)
        method = f"{record.method}/{record.completer}" if record.completer else record.method
        label = label_id(solution, method, self._job)
        mark = int(label, 16)
        stored = self._known_labels.get(mark)
        if stored is not None and (
            stored[0] < 0 or stored[1] == _mark(record.label_metadata, record.label, *record_lists(record))
        ):
            # This run has seen the label set, or the dataset holds it unchanged.
            self._known_labels[mark] = _SEEN
            self.imported.repeated += 1
            return
        # A negative revision marks label sets of this run: of two in one file the first counts.
        self._known_labels[mark] = _SEEN
        self.imported.relabelled += stored is not None
        self.imported.labels += stored is None
        if int(solution, 16) not in self._known_solutions:
            self._known_solutions.add(int(solution, 16))
            self.imported.solutions += 1
            self._solutions.append(record_solution(record, solution, self._job))
        revision = 0 if stored is None else stored[0] + 1
        self._labels.append(record_label(record, label, solution, nodes, self._job, revision))
        self._letters += sum(map(len, record.steps))
        if len(self._labels) >= BATCH or self._letters >= MAX_LETTERS:
            self.flush()

    def flush(self) -> None:
        """Pass the collected questions, solutions and labels to the thread that commits them."""
        batch: list[tuple[str, pa.Table]] = []
        if self._questions:
            asked = [question_row(question) for question in self._questions.values()]
            batch.append(("questions", pa.Table.from_pylist(asked, schema=QUESTIONS)))
        for table, rows, schema in (("solutions", self._solutions, SOLUTIONS), ("labels", self._labels, LABELS)):
            if rows:
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
                batch.append((table, pa.Table.from_arrays(arrays, schema=schema)))
        self._clear()
        # Only one batch is written while the next is read, which bounds the memory.
        self.wait()
        self._writing = self._thread.submit(self._commit, batch)

    def wait(self) -> None:
        """Wait until the current batch is committed. Raises the error of its commit."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        """Commit the remaining rows."""
        try:
            self.flush()
            self.wait()
        finally:
            self._thread.shutdown()

    def _commit(self, batch: list[tuple[str, pa.Table]]) -> None:
        with self._dataset.hold(exclusive=False):
            for table, rows in batch:
                app = f"{self._job}/{table}"
                seq = self._dataset.committed(table, app) + 1
                if table == "questions":
                    self.imported.questions += self._dataset.add_questions(rows, app, seq)
                else:
                    self._dataset.append(table, rows, app, seq)

    def note_end(self, name: str) -> None:
        """Record this import and its totals in `jobs`."""
        imported, config = self.imported, self._config
        app = f"{self._job}/end"
        committed = self._dataset.committed("jobs", app)
        # A run that was killed before this line left rows without a record in `jobs`.
        if committed and not (imported.questions or imported.labels or imported.relabelled):
            return
        settings = {"format": config.format, "source": config.source, "split": config.split, "options": config.options}
        settings |= {"gold_from": config.gold_from} if config.gold_from else {}
        totals = {
            "rows": imported.tally.rows, "questions": imported.questions, "solutions": imported.solutions,
            "labels": imported.labels, "relabelled": imported.relabelled, "repeated": imported.repeated,
            "dropped": dict(imported.tally.dropped), "repaired": dict(imported.tally.repaired),
        }  # fmt: skip
        row = {
            "job_id": self._job,
            "kind": "import",
            "event": "end",
            "config": json.dumps({**settings, "file": name}),
            "versions": json.dumps(versions()),
            "totals": json.dumps(totals, ensure_ascii=False),
            "at": now(),
        }
        self._dataset.append("jobs", [row], app, committed + 1)


def _mark(
    metadata: str, label: Iterable[int | None], value: Iterable[float | None], *counts: Iterable[int | None]
) -> int:
    """A hash of the metadata and lists of a label set, the same whether read from the store or from a file."""
    single = tuple(None if item is None else array("f", [item])[0] for item in value)
    return hash((metadata, tuple(label), single, *map(tuple, counts)))
