"""Runs the training of a process reward model, from a snapshot of the store to a model folder; rerunning it resumes.

<store>/jobs/<job_id>/
    job.toml        configuration, versions, the snapshot read
    data/           encoded examples
    checkpoints/    the newest two of the trainer
    result.json     written last
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from openr_data.checked_lines import write_whole
from openr_data.config import as_dict, identity, later
from openr_data.errors import InputError, Interrupted, UsageError
from openr_data.exchange.selection import Selection
from openr_data.jobs.job import Job
from openr_data.overlap import SEEN_FILE, find_benchmarks, fingerprint
from openr_data.prm_format import CONFIG_KEY, WRITES, PrmEncoder, PrmFormat
from openr_data.store import Store, View
from openr_data.store.refs import MAIN, DatasetName, before_scores

from ..base_model import choose_format, load_base
from .card import prm_card
from .dev import Dev
from .examples import Example, ExampleCounts, LabelRule, read_examples
from .packing import EncodedExamples, Fit, write_encoded
from .trainer import PrmTrainer, Schedule, TrainingReport, processes, train

STRAY: Final = 0.05
"""Benchmark questions up to this share of all questions are left out; more are an error."""

DEV_MOST: Final = 2_000
"""At most this many solutions of the dev split are measured; all its questions are held out."""


@dataclass(frozen=True, slots=True)
class PrmConfig:
    """A reward model's data, base model and format; `schedule` holds the training options.

    `data` is NAME@ref. `method`, `where`, `balance`, `per_question` and `dedupe` choose records as `export` does;
    `labels`, `threshold`, `weights` and `source_weights` are the label rule. `dev_share` of the questions are held out.
    An empty `format` selects the first of this project's formats that fits the tokenizer. `max_length` 0 means the
    context of the model. `share` False reads every solution separately. `generative` trains the verdict as the next
    token over the whole vocabulary, `reasons` the reasons after it; one reason weighs as much as `reason_weight`
    verdicts.
    """

    data: str
    model: str = "arithmetic"
    format: str = ""
    method: str = ""
    where: str = ""
    balance: float | None = None
    per_question: int | None = None
    dedupe: bool = False
    labels: Literal["hard", "soft"] = "hard"
    threshold: float | None = None
    weights: Literal["one", "rollouts"] = "one"
    source_weights: tuple[str, ...] = ()
    dev_share: float = 0.05
    max_length: int = 0
    share: bool = True
    generative: bool = False
    reasons: bool = later(False, since="2026-11-29")
    reason_weight: float = later(1.0, since="2026-11-29")
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if not 0 <= self.dev_share < 1 or self.max_length < 0:
            raise ValueError("dev_share lies in [0, 1), max_length is at least 0")
        if self.reasons and not self.generative:
            raise ValueError("reasons are written by a generative reward model: --generative --reasons")
        if not 0 < self.reason_weight < math.inf:
            raise ValueError("reason_weight is above 0")
        self.rule()
        self.selection()

    def rule(self) -> LabelRule:
        """Return the label rule."""
        return LabelRule(self.labels, self.threshold, self.weights, self.source_weights, self.reasons)

    def selection(self) -> Selection:
        """Return the selection of records."""
        return Selection(self.balance, self.per_question, self.dedupe, self.schedule.seed)

    def flat(self) -> dict[str, Any]:
        """Return all values in one table, as they are written and hashed."""
        plain = as_dict(self)
        return {**plain.pop("schedule"), **plain}

    def identity(self) -> dict[str, Any]:
        """The values that the id of its job is a hash of."""
        plain = identity(self)
        return {**plain.pop("schedule"), **plain}


class PrmRun:
    """One training run; `run` continues from where an earlier process stopped."""

    config_type: ClassVar[type] = PrmConfig

    def __init__(self, store: Store, config: PrmConfig, out: Path) -> None:
        self.store, self.out = store, out
        self.view, self.config = _pinned(store, config)
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file. Name a folder with --out.")
        if out.exists() and any(out.iterdir()) and not _is_reward_model(out):
            raise UsageError(f"{out} contains other files. Name another folder with --out.")
        if out.exists() and Path(config.model).expanduser().resolve() == out.resolve():
            raise UsageError(f"{out} is the base model itself. Name another folder with --out.")
        listed = {"method": "train prm", "source": self.config.data, "into": str(out.resolve())}
        flat = {**self.config.identity(), **listed, "digest": self.view.digest()}
        self.job = Job.begin(store, "train", flat, {"prm_data": self.config.data})
        self.counts, self.trained_on, self.seen = ExampleCounts(), ExampleCounts(), Fit()
        self.questions = {"train": 0, "dev": 0}
        self.benchmarks: dict[str, int] = {}
        self.fingerprints: set[str] = set()

    def result(self) -> dict[str, Any] | None:
        """Return the figures of a finished run, or None if another run has overwritten its model folder."""
        figures = self.job.result()
        written = _json(self.out / "training.json").get("figures", {}).get("job")
        return figures if written == self.job.job_id else None

    def run(self, report: TrainingReport | None = None, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Train and write the model folder; return the figures.

        Raises `InputError` for data without labels or with known benchmark questions, for a tokenizer without the
        format's tokens, for a folder that is not a model, and with `reasons` for labels without any; `UsageError` for a
        classifier with `generative`; `Interrupted` when `stop` returns true, after writing a checkpoint.
        """
        is_main = processes().is_main_process
        with self.job.lock() if is_main else nullcontext():
            form = choose_format(self.config.model, self.config.format)
            if self.config.generative and form.head != "lm_pair":
                raise UsageError(
                    f"The PRM format {form.name!r} has the head {form.head!r}, which cannot write text. Leave out "
                    "--generative, or name a format of a causal model with --format."
                )
            model, tokenizer = load_base(self.config.model, form)
            encoder = PrmEncoder(form, tokenizer)
            data, dev = self._prepare(encoder, self._longest(model))
            checkpoints = self.job.path / "checkpoints"
            trained, trainer = train(
                model,
                encoder,
                data,
                dev,
                self.config.schedule,
                checkpoints,
                branches=self.config.share,
                generative=self.config.generative,
                resume=True,
                report=report,
                stop=stop,
            )
            if trainer.was_stopped:
                raise Interrupted("Stopped after a checkpoint. Run the same command to continue from it.")
            if not is_main:
                return {}
            figures = self._figures(trainer, dev, trained)
            self._save(trained, tokenizer, form, figures)
            self.job.finish(figures)
            shutil.rmtree(checkpoints, ignore_errors=True)
            return figures

    def _longest(self, model: Any) -> int:
        room = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        wanted = self.config.max_length
        if wanted and room and wanted > room:
            raise UsageError(f"-o max_length={wanted} exceeds the {room} positions of {self.config.model}.")
        return wanted or room

    def _prepare(self, encoder: PrmEncoder, longest: int) -> tuple[EncodedExamples, Dev | None]:
        path = self.job.path / "data" / "train.arrow"
        dev: list[Example] = []
        with processes().main_process_first():
            refused = self._benchmark_questions()
            is_written = path.exists()
            part = path.with_suffix(".part")
            stream = self._split(dev, refused)
            if is_written:
                # An earlier process wrote the file; only the dev split, which is small, is read again.
                for _ in stream:
                    pass
                self.seen = _read_fit(path)
            else:
                room = self.config.schedule.pack_tokens
                self.seen = write_encoded(
                    stream,
                    encoder,
                    part,
                    longest=longest,
                    room=room,
                    share=self.config.share,
                    reason_weight=self.config.reason_weight,
                )
                if not self.seen.solutions or (self.config.reasons and not self.seen.reasons):
                    part.unlink()
                    raise InputError(self._no_reasons() if self.seen.solutions else self._nothing())
                write_whole(path.with_suffix(".json"), json.dumps(asdict(self.seen)))
                part.replace(path)
        chosen = sorted(dev, key=lambda example: _draw(f"{example.question_id} {example.steps!r}", 1))[:DEV_MOST]
        held_out = Dev(chosen, encoder, longest)
        return EncodedExamples(path), held_out if len(held_out) else None

    def _split(self, dev: list[Example], refused: set[str]) -> Iterator[Example]:
        """Yield the training examples without the refused questions, and add those of held-out questions to `dev`."""
        config, rule = self.config, self.config.rule()
        before, is_dev = "", False
        for example in read_examples(
            self.view,
            rule,
            self.counts,
            method=config.method,
            where=config.where,
            selection=config.selection(),
        ):
            if example.question_id in refused:
                continue
            if example.question_id != before:
                # Split by text, because the same question with another gold answer, or without one, has another id.
                text_hash = fingerprint(example.question)
                self.fingerprints.add(text_hash)
                is_dev = _draw(text_hash, config.schedule.seed) < config.dev_share
                self.questions["dev" if is_dev else "train"] += 1
            before = example.question_id
            if is_dev:
                dev.append(example)
            else:
                self.trained_on.add(example, rule)
                yield example

    def _benchmark_questions(self) -> set[str]:
        """Return the ids of questions of known benchmarks, which are not trained on.

        Raises `InputError` if their share exceeds `STRAY`: then the dataset is itself a benchmark.
        """
        rows = self.view.sql("select question_id, question from questions semi join labels using (question_id)")
        ids_by_benchmark = find_benchmarks(
            zip(rows["question_id"].to_pylist(), rows["question"].to_pylist(), strict=True)
        )
        self.benchmarks = {name: len(ids) for name, ids in sorted(ids_by_benchmark.items())}
        refused = {question_id for ids in ids_by_benchmark.values() for question_id in ids}
        if len(refused) > STRAY * rows.num_rows:
            counts = ", ".join(f"{count:,} of {name}" for name, count in self.benchmarks.items())
            raise InputError(
                f"{self.config.data} contains benchmark questions ({counts}): the benchmark figures of a model trained "
                "on them would be worthless. Label other questions, for example those of a training split."
            )
        return refused

    def _nothing(self) -> str:
        if not self.counts.records:
            chosen = " that match --method and --where" if self.config.method or self.config.where else ""
            return (
                f"{self.config.data} has no label sets{chosen}: there is nothing to train on. Label some with: "
                f"openr-data label {DatasetName.parse(self.config.data).name}"
            )
        if not self.questions["train"] and self.questions["dev"]:
            return (
                f"All {self.questions['dev']:,} questions of {self.config.data} are held out. Hold out fewer with a "
                f"smaller -o dev_share (it is {self.config.dev_share:g}), or choose others with another -o seed."
            )
        if self.seen.dropped:
            return (
                f"None of the {self.seen.dropped:,} solutions of {self.config.data} fits into the context of "
                f"{self.config.model}. Use a model with a longer context, or a larger -o max_length."
            )
        return (
            f"None of the {self.counts.records:,} records of {self.config.data} has a label on any step. Show the "
            f"records with: openr-data show {self.config.data}"
        )

    def _no_reasons(self) -> str:
        if self.seen.dropped_reasons:
            return (
                f"None of the {self.seen.dropped_reasons:,} reasons of {self.config.data} fits into the context of "
                f"{self.config.model} after its solution. Use a model with a longer context, or a larger -o max_length."
            )
        name = DatasetName.parse(self.config.data).name
        return (
            f"No label of {self.config.data} that would be trained on has a reason. Train without --reasons, or have a "
            f"judge write some: openr-data label {name} --given-solutions --method judge -o prompt=critique-reasons "
            "--policy MODEL"
        )

    def _figures(self, trainer: PrmTrainer, dev: Dev | None, model: Any) -> dict[str, Any]:
        state, metrics = trainer.state, trainer.metrics
        speed = [entry for entry in state.log_history if "train_runtime" in entry]
        seconds = float(speed[-1]["train_runtime"]) if speed else 0.0
        return {
            "job": self.job.job_id,
            "data": self.config.data,
            "digest": self.view.digest(),
            "total": self.seen.solutions,
            "questions": self.questions["train"],
            "dev_questions": self.questions["dev"],
            "dev_solutions": len(dev) if dev is not None else 0,
            "steps": self.trained_on.steps,
            "good_steps": self.trained_on.good,
            "masked_steps": self.trained_on.masked,
            "hard_for_lack_of_a_share": self.counts.without_share,
            "cut_solutions": self.seen.cut_solutions,
            "cut_steps": self.seen.cut_steps,
            "dropped_solutions": self.seen.dropped,
            "reasons": self.seen.reasons,
            "dropped_reasons": self.seen.dropped_reasons,
            "repeated_reasons": self.seen.repeated_reasons,
            "left_out": self.counts.left_out,
            "benchmark_questions_left_out": self.benchmarks,
            "tokens": self.seen.tokens,
            "solution_tokens": self.seen.solution_tokens,
            "updates": state.global_step,
            "seconds": round(seconds, 1),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "threshold": metrics.threshold if metrics is not None else 0.5,
            "dev": metrics.figures() if metrics is not None else {},
        }

    def _save(self, model: Any, tokenizer: Any, form: PrmFormat, figures: Mapping[str, Any]) -> None:
        written = replace(form, threshold=round(min(1.0, max(0.0, float(figures["threshold"]))), 6))
        config = {key: value for key, value in self.config.flat().items() if value is not None}
        model.config.__dict__[CONFIG_KEY] = {
            **written.as_dict(),
            "objective": "verdict" if self.config.generative else "pair",
            **({WRITES: True} if self.config.reasons else {}),
            "trained_on": {"data": self.config.data, "digest": figures["digest"]},
            "label_rule": {each.name: config[each.name] for each in fields(LabelRule) if each.name in config},
        }
        self.out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(self.out)
        tokenizer.save_pretrained(self.out)
        # Written before the figures, which mark the folder as complete; `eval` warns of questions in this list.
        write_whole(self.out / SEEN_FILE, "".join(f"{each}\n" for each in sorted(self.fingerprints)))
        write_whole(self.out / "training.json", json.dumps({"config": config, "figures": figures}, indent=2) + "\n")
        write_whole(self.out / "README.md", prm_card(self.out.name, written, config, figures))


def _pinned(store: Store, config: PrmConfig) -> tuple[View, PrmConfig]:
    """Return the view and the configuration with the snapshot named, so that later writes cannot enter the run."""
    wanted = DatasetName.parse(config.data)
    dataset = store.dataset(wanted.name)
    snapshots = dataset.snapshots()
    if wanted.ref == MAIN and snapshots:
        facts = before_scores(snapshots, snapshots[-1])
        config = replace(config, data=f"{wanted.name}@{facts.name}")
    return store.view(config.data), config


def _draw(text: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on the text and the seed."""
    digest = blake2b(f"{seed} {text}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def _read_fit(path: Path) -> Fit:
    try:
        return Fit(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"The encoded data {path} are damaged. Remove {path.parent} and train again.") from error


def _json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_reward_model(folder: Path) -> bool:
    """Report whether a run has written a folder; the config is written first, so an incomplete folder counts too."""
    return CONFIG_KEY in _json(folder / "config.json")
