"""`openr-data explain`: what a generative reward model says of labelled steps, and why."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import click

from ..display.terminal import EXPLAINED_LEGEND, explained_lines
from ..engine.protocols import ReasoningReward
from ..errors import InputError, UsageError
from ..jobs.reward import open_reward
from ..reasons import MOST, ReasonedStep
from ..registry import load
from ..store import Store
from .output import Output, hint, note, output_options
from .reward_options import RewardOptions, reward_options
from .view import read_records

Said = Sequence[ReasonedStep] | InputError
"""What is said of a solution, or why nothing can be."""

_COLUMNS: Final = ("solution_id", "method", "step_index", "step", "label", "score", "verdict", "reason")


@click.command("explain")
@click.argument("model")
@click.argument("name")
@click.argument("id_", metavar="[ID]", default="")
@click.option("--limit", default=3, show_default=True, help="How many solutions to show.")
@click.option("--method", default="", help="Only label sets of this method.")
@click.option("--errors", is_flag=True, help="Only solutions with a first error.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=MOST, show_default=True, help="Of a reason.")
@reward_options
@output_options
@click.pass_obj
def explain_(
    store: str,
    /,
    model: str,
    name: str,
    id_: str,
    limit: int,
    method: str,
    errors: bool,
    max_tokens: int,
    running: RewardOptions,
    out: Output,
) -> None:
    """Let the generative reward MODEL say of the steps of the dataset NAME whether they are right, and why.

    Behind its verdict on a step it writes a reason, as it was trained to with `train prm --generative --reasons`. A
    step whose score is below the model's threshold is called wrong. Beside it stands the label of the dataset. ID
    begins a solution's or question's id. A solution that is longer than the model's context is named; then the exit
    code is 3.

    \b
    Examples:
      openr-data explain ./judged-prm judged --errors --limit 5
      openr-data explain my-org/gen-prm judged --backend openai --base-url http://gpu1:8000/v1 --jsonl
    """
    rows = read_records(Store.open(store).view(name), name, id_, limit, method, errors)
    if not rows:
        if not out.is_human:
            out.rows([], _COLUMNS)
        hint(f"No label sets in {name} that are asked for. See what is there with: openr-data view {name}")
        return
    kind = load("reward", running.backend)
    if hasattr(kind, "check"):
        # Before the weights are there.
        kind.check(model, running.format, writes=True)
    with closing(open_reward(running.backend, model, running.format, running.live, "explain")) as reward:
        if not isinstance(reward, ReasoningReward):
            raise UsageError(f"The backend {running.backend!r} writes no reasons. Take transformers, vllm or openai.")
        told = asyncio.run(_explained(reward, rows, max_tokens))
    done = [(record, said) for record, said in zip(rows, told, strict=True) if not isinstance(said, InputError)]
    if not done and isinstance(told[0], InputError):
        # Nothing can be said of any: a served model that writes no reasons, for example.
        raise told[0]
    if out.is_human:
        for record, said in done:
            out.render(*explained_lines(record, said), "")
        out.render(EXPLAINED_LEGEND)
    else:
        out.rows([row for record, said in done for row in _rows(record, said)], _COLUMNS)
    failures = [(row, said) for row, said in zip(rows, told, strict=True) if isinstance(said, InputError)]
    for row, error in failures:
        note(f"{row['solution_id'][:10]}  {error}")
    if failures:
        raise click.exceptions.Exit(3)


async def _explained(reward: ReasoningReward, rows: Sequence[Mapping[str, Any]], max_tokens: int) -> list[Said]:
    """What is said of each row: a solution that several methods have labelled is explained once."""

    async def one(row: Mapping[str, Any]) -> Said:
        try:
            return await reward.explain(row["question"], row["steps"], max_tokens=max_tokens)
        except InputError as error:
            # This solution is empty or too long; the others are not.
            return error

    once = {row["solution_id"]: row for row in rows}
    said = dict(zip(once, await asyncio.gather(*map(one, once.values())), strict=True))
    return [said[row["solution_id"]] for row in rows]


def _rows(record: Mapping[str, Any], said: Sequence[ReasonedStep]) -> list[dict[str, Any]]:
    return [
        {
            "solution_id": record["solution_id"],
            "method": record["method"],
            "step_index": place,
            "step": record["steps"][place],
            "label": record["label"][place],
            "score": item.score,
            "verdict": "good" if item.is_good else "bad",
            "reason": item.reason,
        }
        for place, item in enumerate(said)
    ]
