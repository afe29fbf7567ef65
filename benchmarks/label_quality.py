"""Label quality against the oracle, per policy token spent.

    python benchmarks/label_quality.py [--questions 200] [--k 8] [--screening 16] [--searches 20] [--solutions 4]

Both labelers run on the same held-out arithmetic questions with the shipped policy and equal k. The oracle of
the world judges the very steps that were labelled; compared are all labelled steps up to the first true
error (what stands behind it has no truth). Printed and written to benchmarks/results/label_quality.json:

    precision, recall, F1   of the label "bad" (the step is wrong), and F1 of "good"
    exact hit               share of solutions whose first error was found at the true step, or rightly
                            found to have none
    calls, tokens / located completions and completion tokens per distinct first error
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

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Quality:
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
    repeated_probes: int
    calls: int
    tokens: int
    calls_per_located: float
    tokens_per_located: float
    seconds: float
    tokens_per_second: float


async def label_all(labeler: Any, questions: list[Question], policy: Any) -> list[Labeling]:
    """The labelings of all questions; a failure ends the benchmark."""
    grader = load("grader", "math")()
    found: list[Labeling] = []
    async for item in run(questions, lambda q: labeler.label(q, policy, grader), live=64):
        if not isinstance(item, Done):
            raise item.error
        found.append(item.result)
    return found


def measure(method: str, questions: list[Question], labelings: list[Labeling], seconds: float) -> Quality:
    """Compare labels with the oracle, step by step."""
    source = load("source", "arithmetic")()
    by_id = {question.question_id: question for question in questions}
    true_bad = false_bad = missed_bad = true_good = steps = hits = sets = located_true = 0
    seen_errors: set[str] = set()
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
            for step, label in zip(label_set.labels, truth, strict=True):
                if step.label is None or label is None:
                    continue
                steps += 1
                bad, wrong = step.label == -1, label == -1
                true_bad += bad and wrong
                false_bad += bad and not wrong
                missed_bad += wrong and not bad
                true_good += not bad and not wrong
    calls, tokens = sum(item.calls for item in labelings), sum(item.tokens for item in labelings)
    located = len(seen_errors)
    return Quality(
        method=method,
        questions=len(questions),
        labelled_questions=sum(bool(item.labels) for item in labelings),
        label_sets=sets,
        steps=steps,
        precision_bad=true_bad / max(1, true_bad + false_bad),
        recall_bad=true_bad / max(1, true_bad + missed_bad),
        f1_bad=2 * true_bad / max(1, 2 * true_bad + false_bad + missed_bad),
        f1_good=2 * true_good / max(1, 2 * true_good + false_bad + missed_bad),
        exact_hit=hits / max(1, sets),
        located=located,
        located_true=located_true,
        repeated_probes=sum(item.repeated_probes for item in labelings),
        calls=calls,
        tokens=tokens,
        calls_per_located=calls / max(1, located),
        tokens_per_located=tokens / max(1, located),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
    )


def main() -> None:
    """Run both methods, print a table, write JSON."""
    parser = argparse.ArgumentParser(description="label quality against the oracle")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--screening", type=int, default=16)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--solutions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source-seed", type=int, default=0)
    options = parser.parse_args()
    source = load("source", "arithmetic")()
    questions = list(islice(source.read("test", options.source_seed), options.questions))
    entry = model_entry("arithmetic")
    sampling = Sampling(entry.temperature, entry.top_p, entry.max_tokens, seed=options.seed)
    wanted = {
        "omegaprm": {"k": options.k, "screening": options.screening, "searches": options.searches},
        "math-shepherd": {"k": options.k, "solutions": options.solutions},
    }
    found: list[Quality] = []
    with closing(load("policy", "transformers")("arithmetic")) as policy:
        for method, settings in wanted.items():
            kind = load("labeler", method)
            labeler = kind(build(kind.config_type, settings), sampling)
            started = time.monotonic()
            labelings = asyncio.run(label_all(labeler, questions, policy))
            found.append(measure(method, questions, labelings, time.monotonic() - started))
    rows = [asdict(item) for item in found]
    width = max(map(len, rows[0]))
    for name in rows[0]:
        cells = [row[name] for row in rows]
        print(name.ljust(width), *(f"{c:>14.3f}" if isinstance(c, float) else f"{c:>14}" for c in cells))
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "label_quality.json"
    out.write_text(json.dumps({"options": vars(options), "methods": rows}, indent=2) + "\n")
    print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
