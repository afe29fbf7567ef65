"""Runs the whole loop in the arithmetic world: labels, a reward model, better answers than the majority's.

    python benchmarks/best_of_n.py [--questions 1000] [--held-out 400] [--n 16] [--folder FOLDER] [--plot FILE.svg]

Runs the command line as a user would: `label` on training questions, `train prm` on growing shares of the labels,
`eval search` on held-out questions with every model at once. For comparison, Math-Shepherd labels with as many tokens
train the same reward model. FOLDER keeps everything for a later run. The benchmark prints and writes to
benchmarks/results/best_of_n.json, with the bars of the project:

    gain           accuracy of the model's choice minus that of the majority, paired, with a 95 % interval
    AUROC, ECE     of step scores on the held-out candidates, against the oracle, up to the first true error
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.metrics.step_metrics import StepMetrics, step_metrics
from openr_data.registry import load
from openr_data.steps import split_steps
from openr_data.store import Store
from openr_data.store.rows import question_of

RESULTS = Path(__file__).parent / "results"
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the training questions: the points of the learning curve."""


def main() -> None:
    """Run all parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=RESULTS / "best_of_n")
    parser.add_argument("--plot", type=Path, default=RESULTS / "best_of_n.svg")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    store = options.folder / "store"
    labelled = _label(store, "adaptive", "train", options.questions)
    rival = _label(store, "math-shepherd", "train-ms", options.questions, labelled["completion_tokens"])
    models: list[dict[str, Any]] = []
    for share in SHARES:
        models.append(_train(store, "train", options.folder / f"prm-{share:.4f}", share, labelled))
    models.append(_train(store, "train-ms", options.folder / "prm-ms", 1.0, rival))
    search = _search(store, options, [str(model["model"]) for model in models])
    held_out = _candidates(store)
    for model, evaluated in zip(models, search["rewards"], strict=True):
        rules = {row["rule"]: row for row in evaluated["rules"]}
        chosen = rules["min-vote"]
        metrics = asyncio.run(_metrics(str(model["model"]), held_out))
        model |= {"accuracy": chosen["accuracy"], "auroc": metrics.auroc, "ece": metrics.ece, "brier": metrics.brier}
        model |= {name: chosen[name] for name in ("over_majority", "over_majority_low", "over_majority_high")}
        model["majority"] = rules["majority"]["accuracy"]
    _report(models, search, labelled, rival)
    (RESULTS / "best_of_n.json").write_text(json.dumps({"models": models, "search": search}, indent=2) + "\n")


def _run(store: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "openr_data.cli", "--store", str(store), *arguments, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _label(store: Path, method: str, into: str, questions: int, tokens: int = 0) -> dict[str, Any]:
    """Run a labeling job over training questions; `tokens`, if given, limits its tokens."""
    file = store.parent / f"{into}.json"
    if file.exists():
        figures: dict[str, Any] = json.loads(file.read_text())
        return figures
    more = ("--max-tokens", str(tokens)) if tokens else ()
    started = time.monotonic()
    figures = _run(
        store, "label", "arithmetic", "--method", method, "--split", "train", "--source-seed", "7",
        "--limit", str(questions), "--into", into, *more,
    )  # fmt: skip
    figures["wall_seconds"] = round(time.monotonic() - started, 1)
    file.write_text(json.dumps(figures))
    return figures


def _train(store: Path, data: str, out: Path, share: float, labelled: dict[str, Any]) -> dict[str, Any]:
    """Train a model on the questions whose id lies in the first share of all ids."""
    started = time.monotonic()
    where = () if share == 1 else ("--where", f"question_id < '{int(share * 0xFFFF):04x}'")
    figures = _run(store, "train", "prm", data, "--out", str(out), *where)
    return {
        "model": str(out),
        "labels": data,
        "share": share,
        "solutions": figures["total"],
        "policy_tokens": round(share * labelled["completion_tokens"]),
        "label_seconds": round(share * labelled["wall_seconds"]),
        "train_seconds": round(time.monotonic() - started, 1),
        "parameters": figures["parameters"],
    }


def _search(store: Path, options: argparse.Namespace, models: Sequence[str]) -> dict[str, Any]:
    rewards = [word for name in models for word in ("--reward", name)]
    return _run(
        store, "eval", "search", "arithmetic", "--source-seed", "12345", "--limit", str(options.held_out),
        "-o", f"n={options.n}", "--into", "held-out", "--plot", str(options.plot), *rewards,
    )  # fmt: skip


def _candidates(store: Path) -> list[tuple[str, tuple[str, ...], list[int | None]]]:
    """Return the distinct held-out solutions with the oracle's labels of their steps."""
    source = load("source", "arithmetic")()
    view = Store.open(store).view("held-out")
    questions = {row["question_id"]: question_of(row) for row in view.arrow("questions").to_pylist()}
    candidates = []
    for row in view.sql("select distinct question_id, text from rollouts order by 1, 2").to_pylist():
        question, steps = questions[row["question_id"]], split_steps(row["text"])
        if steps and all(step.strip() for step in steps):
            candidates.append((question.question, steps, source.judge(question, steps)))
    return candidates


async def _metrics(model: str, cases: Sequence[tuple[str, tuple[str, ...], list[int | None]]]) -> StepMetrics:
    with closing(TransformersReward(model)) as reward:
        scores = await asyncio.gather(*(reward.score(question, steps) for question, steps, _ in cases))
    flat: list[float] = []
    truth: list[bool] = []
    for values, (_, _, labels) in zip(scores, cases, strict=True):
        for value, label in zip(values, labels, strict=True):
            if label is None:
                break
            flat.append(value)
            truth.append(label >= 0)
    return step_metrics(flat, truth)


def _report(
    models: Sequence[dict[str, Any]], search: dict[str, Any], labelled: dict[str, Any], rival: dict[str, Any]
) -> None:
    print(f"labels: adaptive {labelled['completion_tokens']:,} tokens, {labelled['wall_seconds']:.0f} s; ", end="")
    print(f"math-shepherd {rival['completion_tokens']:,} tokens, {rival['wall_seconds']:.0f} s")
    print(f"{search['source']}, {search['rewards'][0]['questions']} held-out questions")
    columns = ("labels", "solutions", "policy_tokens", "label_seconds", "train_seconds", "auroc", "ece", "majority",
               "accuracy", "over_majority", "over_majority_low", "over_majority_high")  # fmt: skip
    print("  ".join(columns))
    for row in models:
        print("  ".join(f"{row[name]:.4f}" if isinstance(row[name], float) else f"{row[name]}" for name in columns))
    best = next(row for row in models if row["labels"] == "train" and row["share"] == 1)
    minutes = (best["label_seconds"] + best["train_seconds"]) / 60
    bars = (
        ("gain over the majority at least 0.05", best["over_majority"] >= 0.05),
        ("its interval clear of zero", best["over_majority_low"] > 0),
        ("AUROC at least 0.90", best["auroc"] >= 0.90),
        ("ECE at most 0.05", best["ece"] <= 0.05),
        ("at most 60 minutes", minutes <= 60),
        ("at most 2M parameters", best["parameters"] <= 2_000_000),
    )
    for name, holds in bars:
        print(f"{'holds' if holds else 'FALLS SHORT'}: {name}")


if __name__ == "__main__":
    main()
