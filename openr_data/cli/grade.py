"""`openr-data grade`, `regrade`, `disagreements`: whether two answers are the same, for one pair or a whole dataset."""

from contextlib import closing, nullcontext
from typing import Any

import click

from ..derivation.regrade import Regrading, disagreements, regrade
from ..errors import UsageError
from ..grading.by_hand import grade_text
from ..grading.graders import load_grader
from ..store import Store
from ..store.refs import MAIN, DatasetName
from .output import Output, hint, note, output_options

_GRADER = "math, string, numeric, choice, openr, or python:MODULE:FUNCTION (or :CLASS)."


# -5 and -\\frac{1}{2} are answers, not options.
@click.command("grade", context_settings={"ignore_unknown_options": True})
@click.argument("answer")
@click.argument("gold")
@click.option("--grader", default="math", show_default=True, help=_GRADER)
@output_options
def grade_(answer: str, gold: str, grader: str, out: Output) -> None:
    """Grade ANSWER against GOLD by hand. In a text that marks its final answer, that answer is graded.

    \b
    Examples:
      openr-data grade '\\frac{1}{2}' 0.5
      openr-data grade 'So we get \\boxed{x+1}.' '1+x'
    """
    by_hand = grade_text(answer, gold, grader)
    out.facts(
        {
            "verdict": by_hand.grade.verdict.value,
            "reason": by_hand.grade.reason,
            "answer": by_hand.answer,
            "extraction": by_hand.rule or "as given",
            "gold": gold,
            "grader": by_hand.grader,
        }
    )


@click.command("regrade")
@click.argument("name")
@click.option("--grader", default="math", show_default=True, help=_GRADER)
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@output_options
@click.pass_obj
def regrade_(store: str, /, name: str, grader: str, dry_run: bool, out: Output) -> None:
    """Grade all rollouts of the dataset NAME again and derive counts and labels from the verdicts.

    No policy is called. The changes become a new snapshot; the one before keeps the old verdicts.

    \b
    Example:
      openr-data regrade arithmetic --grader numeric --dry-run
    """
    wanted = DatasetName.parse(name)
    if wanted.ref != MAIN:
        raise UsageError(f"Regrading writes to the newest state: openr-data regrade {wanted.name}, without @.")
    dataset = Store.open(store).dataset(wanted.name)
    if not dry_run:
        dataset = Store.open(store).dataset(wanted.name, create=True)
    with closing(load_grader(grader)) as made:
        regrading = regrade(dataset, made, dry_run=dry_run)
    _summary(regrading, name, dry_run, out)


def _summary(regrading: Regrading, name: str, dry_run: bool, out: Output) -> None:
    changes = {f"{old} → {new}": count for (old, new), count in sorted(regrading.changed.items())}
    facts: dict[str, Any] = {
        "dataset": f"{name}@{regrading.snapshot.name}" if regrading.snapshot else name,
        "grader": regrading.grader,
        "rollouts": regrading.rollouts,
        "verdicts_changed": sum(regrading.changed.values()),
        "changes": ", ".join(f"{count} {change}" for change, count in changes.items()) if out.is_human else changes,
        "solutions_changed": regrading.rows["solutions"],
        "label_sets_changed": regrading.rows["labels"],
        "first_errors_moved": regrading.first_errors_moved,
        "cut_off": regrading.cut_off,
    }
    out.facts(facts)
    if dry_run:
        hint(
            "Nothing was written. See the answers with: openr-data disagreements "
            f"{name} --grader {regrading.grader.partition('/')[0]}"
        )


@click.command("disagreements")
@click.argument("name")
@click.option("--grader", default="math", show_default=True, help=_GRADER)
@click.option("--against", help="Another grader (default: the verdicts that are stored).")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Answers to list.")
@output_options
@click.pass_obj
def disagreements_(store: str, /, name: str, grader: str, against: str | None, limit: int, out: Output) -> None:
    """List the answers of NAME or NAME@ref on which two graders differ, most frequent first.

    \b
    Example:
      openr-data disagreements arithmetic --grader openr --against math
    """
    view = Store.open(store).view(name)
    with closing(load_grader(grader)) as second, closing(load_grader(against)) if against else nullcontext() as first:
        differences = disagreements(view, first, second)
    out.rows(
        [
            {
                "answer": item.answer,
                "gold": item.gold,
                against or "stored": item.first.verdict.value,
                grader: item.second.verdict.value,
                "rollouts": item.rollouts,
                "reason": item.second.reason or item.first.reason,
                "question_id": item.question_id,
            }
            for item in differences[:limit]
        ],
        ("answer", "gold", against or "stored", grader, "rollouts", "reason", "question_id"),
    )
    rollouts, other = sum(item.rollouts for item in differences), first.name if first else "the stored verdicts"
    note(f"{len(differences):,} answers, {rollouts:,} rollouts: {second.name} and {other} differ.")
