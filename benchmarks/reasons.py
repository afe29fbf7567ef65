"""Measures the cost and benefit of learning reasons: three reward models on the same labels, one with reasons.

    python benchmarks/reasons.py [--questions 1000] [--held-out 400] [--n 16] [--folder FOLDER]

The labels are those of best_of_n.py, whose store is reused if it exists. The reasons are those of the oracle of the
arithmetic world ("the calculation is not one of the plan"), on steps whose label the oracle shares. For the held-out
candidates up to their first true error, the benchmark prints and writes to benchmarks/results/reasons.json:

    AUROC, ECE     of step scores, against the oracle
    its reason     for right verdicts, the share of good and of bad steps whose written reason is exactly that of the
                   oracle, over about 500 solutions
    seconds        of the whole command `train prm`
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from best_of_n import RESULTS, _candidates, _label, _metrics, _run, _search

from openr_data.catalogs.arithmetic.oracle import Judgement, judge
from openr_data.catalogs.arithmetic.problems import plan_from_json
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.reasons import told_reasons
from openr_data.store import Store
from openr_data.store.rows import question_of

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "pair": (),
    "verdict": ("--generative",),
    "verdict and reason": ("--generative", "--reasons"),
}


def main() -> None:
    """Run all parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=RESULTS / "best_of_n")
    parser.add_argument("-o", dest="options", action="append", default=[])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.plot = options.folder / "reasons.svg"
    store = options.folder / "store"
    _label(store, "adaptive", "train", options.questions)
    _with_reasons(store, options.folder)
    _search(store, options, ["arithmetic-reward"])
    held_out = _candidates(store)
    plans = _plans(store)
    results: list[dict[str, Any]] = []
    for name, flags in OBJECTIVES.items():
        out = options.folder / f"reasons-{name.replace(' ', '-')}"
        started = time.monotonic()
        more = [word for option in options.options for word in ("-o", option)]
        figures = _run(store, "train", "prm", "reasoned", "--out", str(out), *flags, *more)
        seconds = time.monotonic() - started
        metrics = asyncio.run(_metrics(str(out), held_out))
        row = {"objective": name, "seconds": round(seconds, 1), "tokens": figures["tokens"], "auroc": metrics.auroc}
        row |= {"ece": metrics.ece, "reasons": figures["reasons"]}
        if "--reasons" in flags:
            row |= asyncio.run(_compared(str(out), held_out[:: max(1, len(held_out) // 500)], plans))
        results.append(row)
        print(json.dumps(row), flush=True)
    (RESULTS / "reasons.json").write_text(json.dumps(results, indent=2) + "\n")


def _with_reasons(store: Path, folder: Path) -> None:
    """Make the dataset `reasoned`: the labels of `train` with the reasons of the oracle."""
    rows, reasoned = folder / "records.jsonl", folder / "reasoned.jsonl"
    base = [sys.executable, "-m", "openr_data.cli", "--store", str(store)]
    subprocess.run([*base, "export", "train", str(rows)], check=True)
    with rows.open() as lines, reasoned.open("w") as file:
        for line in lines:
            row = json.loads(line)
            truth = _judged(row["question"], row["metadata"], row["steps"])
            same = [
                judgement.reason if _side(label) == _side(judgement.label) is not None else ""
                for label, judgement in zip(row["label"], truth, strict=True)
            ]
            row["label_metadata"] |= told_reasons(same)
            file.write(json.dumps(row) + "\n")
    subprocess.run([*base, "import", "reasoned", str(reasoned)], check=True)


def _side(label: int | None) -> bool | None:
    return None if label is None else label >= 0


def _judged(question: str, metadata: dict[str, Any], steps: Sequence[str]) -> list[Judgement]:
    return judge(question, plan_from_json(metadata["plan"]), steps)


def _plans(store: Path) -> dict[str, dict[str, Any]]:
    view = Store.open(store).view("held-out")
    questions = [question_of(row) for row in view.arrow("questions").to_pylist()]
    return {question.question: json.loads(question.metadata) for question in questions}


async def _compared(model: str, cases: Sequence[Any], plans: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare written reasons with those of the oracle on steps that both judge, by whether the verdict is right."""
    with closing(TransformersReward(model)) as reward:
        started = time.monotonic()
        explained = await asyncio.gather(
            *(reward.explain(question, steps, max_tokens=40) for question, steps, _ in cases)
        )
        seconds = time.monotonic() - started
    count: Counter[str] = Counter()
    for verdicts, (question, steps, labels) in zip(explained, cases, strict=True):
        truth = _judged(question, plans[question], steps)
        for verdict, judgement, label in zip(verdicts, truth, labels, strict=True):
            if label is None:
                break
            kind = ("good" if label >= 0 else "bad") if verdict.is_good == (label >= 0) else "mistaken"
            count[kind] += 1
            count[f"{kind} its reason"] += verdict.reason == judgement.reason
    kinds = [kind for kind in ("good", "bad") if count[kind]]
    shares = {f"its reason, {kind}": count[f"{kind} its reason"] / count[kind] for kind in kinds}
    return {**shares, **count, "explained": len(cases), "explain_seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
