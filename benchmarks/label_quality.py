"""Measures label quality against the oracle and per policy token, for every labeler in one run.

    python benchmarks/label_quality.py [--questions 500] [--openr-questions 60] [--plot FILE.svg]

All labelers run on the same held-out arithmetic questions with the shipped policy. The oracle of the world judges the
same steps that were labelled. All labelled steps up to the first true error are compared; later steps have no truth.
The benchmark prints and writes to benchmarks/results/label_quality.json, with the bars of the project:

    precision, recall, F1   of the label "bad" (the step is wrong), and F1 of "good"
    exact hit               share of solutions whose first error was located at the true step, or that were correctly
                            labelled as having none
    false zeros             share of the distinct located first errors whose step is right according to the oracle
    calls, tokens / located completions and completion tokens per distinct first error

OpenR's loop (`openr_loop.py`) runs on fewer questions because it needs many calls: only its calls and repeats count.
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from openr_data.config import build
from openr_data.engine.scheduler import Done, run
from openr_data.models import model_entry
from openr_data.registry import load
from openr_data.types import Labeling, Question, Sampling

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.openr_loop import OpenRLoop

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """The figures of one method."""

    method: str
    questions: int
    labelled_questions: int
    label_sets: int
    steps: int
    precision_bad: float
    recall_bad: float
    f1_bad: float
    f1_good: float
    exact_hit: float
    located: int
    located_true: int
    false_zeros: float
    repeated_probes: int
    calls: int
    tokens: int
    calls_per_located: float
    tokens_per_located: float
    seconds: float
    tokens_per_second: float


async def label_all(labeler: Any, questions: list[Question], policy: Any) -> list[Labeling]:
    """Label all questions; a failure ends the benchmark."""
    grader = load("grader", "math")()
    labelings: list[Labeling] = []
    async for outcome in run(questions, lambda q: labeler.label(q, policy, grader), live=128):
        if not isinstance(outcome, Done):
            raise outcome.error
        labelings.append(outcome.result)
    return labelings


def measure(method: str, questions: list[Question], labelings: list[Labeling], seconds: float) -> MethodFigures:
    """Compare labels with the oracle, step by step."""
    source = load("source", "arithmetic")()
    by_id = {question.question_id: question for question in questions}
    true_bad = false_bad = missed_bad = true_good = steps = hits = sets = located_true = 0
    seen_errors: set[str] = set()
    false_zeros: set[str] = set()
    for labeling in labelings:
        solutions = {solution.solution_id: solution for solution in labeling.solutions}
        for label_set in labeling.labels:
            truth = source.judge(by_id[labeling.question_id], solutions[label_set.solution_id].steps)
            true_error = next((i for i, label in enumerate(truth) if label == -1), None)
            sets += 1
            hits += label_set.first_error == true_error
            if label_set.first_error is not None:
                node = label_set.labels[label_set.first_error].node_id
                located_true += label_set.first_error == true_error and node not in seen_errors
                seen_errors.add(node)
                if truth[label_set.first_error] in (0, 1):
                    false_zeros.add(node)
            for step, label in zip(label_set.labels, truth, strict=True):
                if step.label is None or label is None:
                    continue
                steps += 1
                bad, wrong = step.label == -1, label == -1
                true_bad += bad and wrong
                false_bad += bad and not wrong
                missed_bad += wrong and not bad
                true_good += not bad and not wrong
    calls, tokens = sum(each.calls for each in labelings), sum(each.tokens for each in labelings)
    located = len(seen_errors)
    return MethodFigures(
        method=method,
        questions=len(questions),
        labelled_questions=sum(bool(each.labels) for each in labelings),
        label_sets=sets,
        steps=steps,
        precision_bad=true_bad / max(1, true_bad + false_bad),
        recall_bad=true_bad / max(1, true_bad + missed_bad),
        f1_bad=2 * true_bad / max(1, 2 * true_bad + false_bad + missed_bad),
        f1_good=2 * true_good / max(1, 2 * true_good + false_bad + missed_bad),
        exact_hit=hits / max(1, sets),
        located=located,
        located_true=located_true,
        false_zeros=len(false_zeros) / max(1, located),
        repeated_probes=sum(each.repeated_probes for each in labelings),
        calls=calls,
        tokens=tokens,
        calls_per_located=calls / max(1, located),
        tokens_per_located=tokens / max(1, located),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
    )


SCREENING: dict[str, Any] = {"screening": 16}
RUNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("omegaprm", "omegaprm", {"k": 8, "searches": 20, **SCREENING}),
    ("omegaprm k=4", "omegaprm", {"k": 4, "searches": 20, **SCREENING}),
    ("omegaprm stop", "omegaprm", {"k": 8, "searches": 20, "wave": 2, "split_at": 0.25, **SCREENING}),
    ("math-shepherd", "math-shepherd", {"k": 8, "solutions": 4}),
    ("adaptive .90", "adaptive", {"confidence": 0.9}),
    ("adaptive", "adaptive", {}),
    ("adaptive .99", "adaptive", {"confidence": 0.99}),
    ("openr-loop", "", {"k": 8, "searches": 20, **SCREENING}),
)
"""Name, labeler, options. `adaptive` without options is the default, with a confidence of 0.95."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the project, the measured figure, and whether the bar holds."""

    what: str
    figure: float
    bar: float
    at_most: bool

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side of the bar."""
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar


def bars(figures: dict[str, MethodFigures]) -> list[Bar]:
    """Check the bars of the project over one run."""
    omega, shepherd, ours = figures["omegaprm"], figures["math-shepherd"], figures["adaptive"]
    confident = [method for name, method in figures.items() if name.startswith("adaptive")]
    as_exact = [method for method in confident if method.exact_hit >= omega.exact_hit]
    cheapest = min(as_exact or confident, key=lambda method: method.tokens_per_located)
    return [
        Bar("omegaprm (k = 8): calls per located first error", omega.calls_per_located, 15, True),
        Bar("omegaprm stop: calls per located first error", figures["omegaprm stop"].calls_per_located, 15, True),
        Bar(
            "repeated probes of our labelers",
            sum(q.repeated_probes for n, q in figures.items() if "openr" not in n),
            0,
            True,
        ),
        Bar(
            "adaptive: tokens per first error, of math-shepherd",
            ours.tokens_per_located / shepherd.tokens_per_located,
            1 / 3,
            True,
        ),
        Bar("adaptive: exact hit, over that of math-shepherd", ours.exact_hit - shepherd.exact_hit, 0, False),
        Bar(
            "adaptive: tokens per first error, of omegaprm",
            ours.tokens_per_located / omega.tokens_per_located,
            0.7,
            True,
        ),
        Bar("adaptive: exact hit, over that of omegaprm", ours.exact_hit - omega.exact_hit, 0, False),
        # At equal accuracy: the cheapest confidence whose first errors are as often exact as those of omegaprm.
        Bar(
            f"as exact as omegaprm ({cheapest.method}): its tokens",
            cheapest.tokens_per_located / omega.tokens_per_located,
            0.7,
            True,
        ),
        Bar(
            f"as exact as omegaprm ({cheapest.method}): exact hit, over its",
            cheapest.exact_hit - omega.exact_hit,
            0,
            False,
        ),
        Bar("adaptive: exact hit", ours.exact_hit, 0.93, False),
        Bar("adaptive: F1 of bad", ours.f1_bad, 0.95, False),
        *(
            Bar(f"{name}: false zeros", figures[name].false_zeros, 1 - confidence, True)
            for name, confidence in (
                ("adaptive .90", 0.9),
                ("adaptive", 0.95),
                ("adaptive .99", 0.99),
            )
        ),
    ]


def draw(figures: dict[str, MethodFigures], path: Path) -> None:
    """Plot quality against tokens: one point per run, and a line through the confidences of adaptive."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.4), layout="constrained")
    line = [method for name, method in figures.items() if name.startswith("adaptive")]
    axes.plot(
        [q.tokens_per_located for q in line], [q.exact_hit for q in line], color="#1b6ca8", linewidth=1.2, zorder=1
    )
    for name, method in figures.items():
        if name == "openr-loop":
            continue
        colour = "#1b6ca8" if name.startswith("adaptive") else "#7a7a7a"
        axes.scatter([method.tokens_per_located], [method.exact_hit], s=28, color=colour, zorder=2)
        axes.annotate(
            name, (method.tokens_per_located, method.exact_hit), xytext=(5, -9), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")
    axes.set_xlabel("completion tokens per distinct first error")
    axes.set_ylabel("solutions with the exact first error")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Run all methods, print a table and the bars, write JSON and the plot."""
    parser = argparse.ArgumentParser(description="label quality against the oracle")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--openr-questions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source-seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=RESULTS / "label_quality.svg")
    options = parser.parse_args()
    source = load("source", "arithmetic")()
    questions = list(islice(source.read("test", options.source_seed), options.questions))
    entry = model_entry("arithmetic")
    sampling = Sampling(entry.temperature, entry.top_p, entry.max_tokens, seed=options.seed)
    measured: dict[str, MethodFigures] = {}
    with closing(load("policy", "transformers")("arithmetic")) as policy:
        for name, method, settings in RUNS:
            kind = load("labeler", method) if method else OpenRLoop
            chosen = questions if method else questions[: options.openr_questions]
            labeler = kind(build(kind.config_type, settings), sampling)
            started = time.monotonic()
            labelings = asyncio.run(label_all(labeler, chosen, policy))
            measured[name] = measure(name, chosen, labelings, time.monotonic() - started)
            print(f"{name}: {measured[name].seconds:.0f} s", file=sys.stderr, flush=True)
    rows = [asdict(method) for method in measured.values()]
    for name in rows[0]:
        cells = [row[name] for row in rows]
        columns = (f"{c:>18.3f}" if isinstance(c, float) else f"{c:>18}" for c in cells)
        print(name.ljust(18), *columns)
    held = bars(measured)
    for each in held:
        mark = "holds" if each.holds else "FALLS SHORT"
        print(f"{each.what.ljust(58)} {each.figure:8.3f}  {'<=' if each.at_most else '>='} {each.bar:.3f}  {mark}")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "label_quality.json"
    results: dict[str, Any] = {"options": {**vars(options), "plot": str(options.plot)}, "methods": rows}
    results["bars"] = [{**asdict(each), "holds": each.holds} for each in held]
    out.write_text(json.dumps(results, indent=2) + "\n")
    draw(measured, options.plot)
    print(f"written to {out} and {options.plot}", file=sys.stderr)


if __name__ == "__main__":
    main()
