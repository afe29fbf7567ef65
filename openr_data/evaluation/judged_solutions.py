"""Solutions with the truth about their steps, from a pinned snapshot or from a file in a format of the field.

The truth is the one that `compare` uses: the oracle of the question's source if it has one, else people, else the
method that is taken at its word. A solution of a dataset counts once, however often it is labelled; a solution of a
file counts once for each model that wrote it, as in ProcessBench.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import duckdb

from ..errors import InputError, UnknownName, UsageError
from ..exchange.file_format import AHEAD, check_some, make_format, recognised
from ..exchange.formats.files import read_rows
from ..exchange.formats.format import Tally
from ..exchange.importer import read_items
from ..ids import solution_id
from ..labels import HardLabel, first_error
from ..registry import FORMATS
from ..store import Dataset, Store, View, query, refs
from ..store.refs import MAIN, DatasetName
from ..types import Provenance, Record
from .labels import MEMORY, judges_of, listed_methods, method_table
from .truth import HUMAN, ORACLE, ask, find_truth, oracle_of, oracles

AT_ONCE: Final = 5_000
"""Solutions that are converted from columns to rows at a time."""

_READ: Final = "questions solutions labels"


@dataclass(frozen=True, slots=True)
class JudgedSolution:
    """A solution and the true label of each of its steps: 1 good, 0 neutral, -1 bad, None unknown."""

    solution_id: str
    question: str
    steps: tuple[str, ...]
    truth: tuple[HardLabel, ...]
    source: str = ""
    generator: str = ""
    question_id: str = ""

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps and {len(self.truth)} labels")

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step that is bad, or None."""
        return first_error(self.truth)

    @property
    def is_undecided(self) -> bool:
        """Whether no step is bad but some are not judged: the solution may have an error or not."""
        return self.first_error is None and None in self.truth


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """The solutions of a dataset or file whose truth is known, in the order of their questions.

    `truth` is the number of solutions by kind of truth, `without_truth` of labelled solutions that have none, and
    `unreadable` of those among them that an oracle could not judge; `dropped` is the number of rows of a file by the
    reason. With a limit `solutions` are fewer than `truth` counts.
    """

    name: str
    solutions: tuple[JudgedSolution, ...]
    truth: Mapping[str, int] = field(default_factory=dict)
    without_truth: int = 0
    unreadable: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Where judged solutions come from: a view of a dataset (`name` pins the snapshot), or a file in a format.

    `digest` is a hash of the content without step scores, which an evaluation adds.
    """

    name: str
    digest: str
    view: View | None = None
    format: str = ""

    def read(self, truth: str = "", limit: int = 0) -> JudgedSet:
        """The solutions; `truth` is "oracle", "human", a method, or "" for the first of oracle and people.

        A `limit` takes N of them, the same each time and in any order of the rows. Raises `UsageError` if nothing is
        labelled or no truth is known, `UnknownName` for a truth that the data lack, `InputError` for a file that
        cannot be read.
        """
        judged = _of_file(self, truth) if self.view is None else _of_view(self, self.view, truth)
        if not limit or len(judged.solutions) <= limit:
            return judged
        chosen = {id(item) for item in sorted(judged.solutions, key=lambda item: item.solution_id)[:limit]}
        return replace(judged, solutions=tuple(item for item in judged.solutions if id(item) in chosen))


def labelled_data(store: Store | None, what: str, file_format: str = "") -> LabelledData:
    """The data that a user names: a dataset NAME or NAME@ref, pinned to its newest snapshot, or else a file.

    Raises `UnknownName` for neither, `MissingRef`, and `InputError` for a file in no known format.
    """
    names = store.names() if store is not None else []
    if store is not None and what.partition("@")[0] in names:
        return _data_of(store.dataset(DatasetName.parse(what).name), DatasetName.parse(what))
    path = Path(what).expanduser()
    if not path.is_file():
        raise UnknownName("labelled dataset or file", what, names, "Import a file of the field with: openr-data import")
    if file_format and file_format not in FORMATS:
        raise UnknownName("format", file_format, FORMATS)
    ahead = list(itertools.islice(read_rows(str(path)), AHEAD))
    if not ahead:
        raise InputError(f"{what} holds no rows.")
    name = file_format or recognised(what, ahead)
    check_some(make_format(name, {}, "", ""), name, what, ahead)
    return LabelledData(what, _file_digest(path), format=name)


def _data_of(dataset: Dataset, wanted: DatasetName) -> LabelledData:
    """The data of a dataset, under the name and digest of its facts: scores that an evaluation adds change neither."""
    snapshots = dataset.snapshots()
    if wanted.ref == MAIN and not snapshots:
        view = dataset.view()
        return LabelledData(wanted.name, query.digest(view.connect(), without=("scores",)), view)
    # `main` means its newest snapshot: what other jobs write meanwhile has no part in this.
    snapshot = refs.find(dataset.refs, dataset.name, wanted.ref if wanted.ref != MAIN else snapshots[-1].name)
    facts = refs.before_scores(refs.rows(dataset.refs), snapshot)
    name = f"{wanted.name}@{facts.name}" if wanted.ref == MAIN else str(wanted)
    return LabelledData(name, facts.digest, dataset.view(snapshot.name if wanted.ref == MAIN else wanted.ref))


def _file_digest(path: Path) -> str:
    digest = blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    return digest.hexdigest()


def _of_view(data: LabelledData, view: View, truth: str) -> JudgedSet:
    connection = view.connect(_READ, MEMORY)
    listed = listed_methods(connection)
    if not listed:
        raise UsageError(
            f"{data.name} has no labels, so nothing is known of its steps. Label it with: openr-data label "
            f"{view.dataset.name} --method omegaprm"
        )
    sources = oracles(connection, needed=truth == ORACLE) if truth in ("", ORACLE) else {}
    judges = judges_of(connection, listed, truth, bool(sources))
    connection.register("contenders", method_table(listed))
    true_labels = find_truth(connection, sources, method_table(judges) if judges else None, truth or HUMAN)
    if not true_labels.rows.num_rows:
        raise _no_truth(data.name, [item.name for item in listed if not item.by_people])
    connection.register("truth", true_labels.rows)
    solutions: list[JudgedSolution] = []
    try:
        for batch in connection.sql(_JUDGED).to_arrow_reader(AT_ONCE):
            for row in batch.to_pylist():
                steps, labels = tuple(row.pop("steps")), tuple(row.pop("label"))
                solutions.append(JudgedSolution(steps=steps, truth=labels, **row))
    except duckdb.Error as error:
        raise query.unreadable(error) from error
    labelled = query.arrow(connection, "select count(distinct solution_id) as n from labels")["n"][0].as_py()
    return JudgedSet(data.name, tuple(solutions), true_labels.counts, labelled - len(solutions), true_labels.unreadable)


_JUDGED: Final = """
    with once as (
        select distinct on (solution_id) solution_id, question_id, steps, coalesce(generator, '') as generator
        from solutions semi join truth using (solution_id) order by solution_id, job_id
    )
    select solution_id, question_id, question, steps, label, coalesce(source, '') as source, generator
    from once join truth using (solution_id) join questions using (question_id)
    where len(label) = len(steps)
    order by question_id, solution_id
"""


@dataclass(slots=True)
class _Records:
    """The records of a file as they are read: the truth of each solution with its kind, and all methods that label."""

    truth: str
    judged: dict[tuple[str, str], tuple[str, JudgedSolution]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    methods: Counter[str] = field(default_factory=Counter)
    people: bool = False
    sources: set[str] = field(default_factory=set)
    unreadable: set[tuple[str, str]] = field(default_factory=set)

    def add(self, record: Record) -> None:
        question = record.question
        name = solution_id(question.question_id, record.steps)
        key = (name, record.generator)
        self.seen.add(key)
        by_people = int(Provenance.HUMAN) in record.provenance
        if any(label is not None for label in record.label):
            self.methods[record.method] += 1
            self.people = self.people or by_people
        kind, labels = self._truth(record, by_people, key)
        before = self.judged.get(key)
        if labels is None or (before is not None and before[0] == ORACLE):
            return
        solution = JudgedSolution(
            name, question.question, record.steps, labels, question.source, record.generator, question.question_id
        )
        # If several records judge a solution, the one that judges most of its steps counts.
        if before is None or kind == ORACLE or _judged(solution) > _judged(before[1]):
            self.judged[key] = kind, solution

    def _truth(self, record: Record, by_people: bool, key: tuple[str, str]) -> tuple[str, tuple[HardLabel, ...] | None]:
        """The kind of truth about a record, and its labels; None if it has none."""
        source = _oracle(record.question.source, self.truth == ORACLE) if self.truth in ("", ORACLE) else None
        if source is not None:
            self.sources.add(record.question.source)
            labels = ask(source, record.question, record.steps)
            if labels is not None and len(labels) == len(record.steps):
                return ORACLE, tuple(labels)
            self.unreadable.add(key)
        is_wanted = by_people if self.truth in ("", HUMAN) else record.method == self.truth
        has_labels = any(label is not None for label in record.label)
        return self.truth or HUMAN, record.label if is_wanted and has_labels else None


def _judged(item: JudgedSolution) -> int:
    return sum(label is not None for label in item.truth)


@cache
def _oracle(source: str, needed: bool) -> Any | None:
    return oracle_of(source, needed=needed)


def _of_file(data: LabelledData, truth: str) -> JudgedSet:
    tally = Tally()
    path = Path(data.name).expanduser()
    form = make_format(data.format, {}, path.stem, "")
    records = _Records(truth)
    for item in read_items(form, read_rows(str(path)), tally):
        if isinstance(item, Record):
            records.add(item)
    if not records.methods and not records.sources:
        raise UsageError(
            f"{data.name}, read as {data.format}, has no labels, so nothing is known of its steps. Import it with "
            "openr-data import, then label it with openr-data label, or name a labelled file."
        )
    if not records.judged:
        if truth:
            there = {*records.methods, *([HUMAN] if records.people else []), *([ORACLE] if records.sources else [])}
            raise UnknownName("truth", truth, there)
        raise _no_truth(data.name, sorted(records.methods))
    truth_counts = Counter(kind for kind, _ in records.judged.values())
    solutions = [solution for _, solution in records.judged.values()]
    by_question = sorted(solutions, key=lambda item: (item.question, item.solution_id, item.generator))
    unknown = len(records.seen - set(records.judged))
    dropped = dict(tally.dropped)
    return JudgedSet(data.name, tuple(by_question), dict(truth_counts), unknown, len(records.unreadable), dropped)


def _no_truth(name: str, methods: Sequence[str]) -> UsageError:
    there = f" (there are: {', '.join(methods)})" if methods else ""
    return UsageError(
        f"No truth is known about the solutions of {name}: neither an oracle nor people judge them. Take a method at "
        f"its word with: --truth METHOD{there}"
    )
