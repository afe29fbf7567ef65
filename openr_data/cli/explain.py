"""`openr-data explain`: the verdicts and reasons of a generative reward model on labelled steps."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from ..display.terminal import EXPLAINED_LEGEND, explained_lines
from ..errors import InputError
from ..evaluation.explanations import RewardChoice, explain
from ..reasons import MOST, ReasonedStep
from ..store import Store
from .output import Output, hint, note, output_options
from .reward_options import RewardOptions, reward_options

_COLUMNS: Final = ("solution_id", "method", "step_index", "step", "label", "score", "verdict", "reason")


@click.command("explain")
@click.argument("model")
@click.argument("name")
@click.argument("id_", metavar="[ID]", default="")
@click.option("--limit", default=3, show_default=True, help="Explain at most N label sets.")
@click.option("--method", default="", help="Only label sets of this method.")
@click.option("--errors", is_flag=True, help="Only solutions with a first error.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=MOST, show_default=True, help="Tokens of a reason at most."
)
@reward_options()
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
    reward_run: RewardOptions,
    out: Output,
) -> None:
    """Ask the generative reward MODEL for a verdict and a reason on each step of the dataset NAME.

    After its verdict on a step the model writes a reason, as `train prm --generative --reasons` trained it to. A step
    with a score below the model's threshold counts as wrong. The label of the dataset is shown beside the verdict. ID
    is the beginning of a solution's or question's id. A solution longer than the model's context is reported; then the
    exit code is 3.

    \b
    Examples:
      openr-data explain ./judged-prm judged --errors --limit 5
      openr-data explain my-org/gen-prm judged --backend openai --base-url http://gpu1:8000/v1 --jsonl
    """
    records = Store.open(store).view(name).find_records(id_, method=method, only_errors=errors, limit=limit)
    if not records.num_rows:
        if not out.is_human:
            out.rows([], _COLUMNS)
        hint(f"No label sets in {name} match. List those that exist with: openr-data view {name}")
        return
    reward = RewardChoice(model, reward_run.backend, reward_run.format, reward_run.live)
    explained = list(zip(records.to_pylist(), explain(records, reward, max_tokens=max_tokens), strict=True))
    if out.is_human:
        for row, steps in explained:
            if not isinstance(steps, InputError):
                out.render(*explained_lines(row, steps), "")
        out.render(EXPLAINED_LEGEND)
    else:
        rows = (_rows(row, steps) for row, steps in explained if not isinstance(steps, InputError))
        out.rows([line for lines in rows for line in lines], _COLUMNS)
    failures = [(row, error) for row, error in explained if isinstance(error, InputError)]
    for row, error in failures:
        note(f"{row['solution_id'][:10]}  {error}")
    if failures:
        raise click.exceptions.Exit(3)


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
