"""`openr-data eval search`: how often a search and a way to choose find the right answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import click

from ..config import parse_overrides
from ..display.plots import check_plot
from ..evaluation.search import RewardRun, SearchEvaluation, evaluate_search
from ..evaluation.search_figures import MAJORITY, RANDOM, SearchFigures
from ..evaluation.seen_questions import seen_note
from ..jobs.plan import Plan, plan
from ..jobs.start import RunOptions
from ..registry import check, load
from ..store import Store
from .label import progress, run_options
from .output import Output, hint, note, output_options
from .reward_options import RewardOptions, reward_options

DEFAULT: Final[Mapping[str, Any]] = {
    "source": "arithmetic", "split": "test", "into": "arithmetic-search", "policy": "arithmetic", "limit": 200,
}  # fmt: skip
"""The search if no questions are named."""
FAILURES: Final = 3
"""Reasons that are listed of solutions without scores."""
POINTS: Final = 9
"""Numbers of candidates that the table lists."""


@click.command("search")
@click.argument("source", default="")
@click.option("--method", default="best-of-n", show_default=True, help="How to search: best-of-n.")
@click.option(
    "--reward", "rewards", multiple=True, metavar="MODEL", help="A reward model to choose with; again for more."
)
@reward_options("reward-")
@click.option("--policy", help="The model that answers.")
@click.option("--backend", help="What runs the policy: transformers, vllm, openai.")
@click.option("--into", help="The dataset that keeps the candidates (default: NAME-search).")
@click.option("--split", help="Only questions of this split.")
@click.option("--limit", type=click.IntRange(min=0), help="Use at most N questions (0: all).")
@click.option("--seed", type=int, help="The seed of the search.")
@click.option("--source-seed", type=int, help="The seed of a generated source.")
@click.option("--grader", help="How answers are compared.")
@click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="For example -o n=64.")
@click.option("--plot", default="", metavar="FILE", help="Draw accuracy over candidates and tokens, to .svg or .png.")
@run_options
@output_options
@click.pass_obj
def search(
    store: str,
    /,
    source: str,
    rewards: tuple[str, ...],
    reward_run: RewardOptions,
    options: tuple[str, ...],
    plot: str,
    running: RunOptions,
    out: Output,
    **flags: Any,
) -> None:
    """Answer the questions of SOURCE by a search, and show how often each way to choose among the answers is right.

    Candidates and step scores are stored: the same command again asks no model, and another reward model is compared
    on the same candidates. No search sees a gold answer. Independent candidates give the exact accuracy for every
    number of them up to N from the one run, with 95 % intervals over questions; a guided search has figures at its
    actual number of candidates. "oracle" is right if any candidate is, "random" picks one at random.

    \b
    Ways to choose:
      majority              the answer that most candidates give, equal ones by --grader
      min-, last-, product-, mean-vote   votes weigh the least, last, product or mean step score
      min-, last-, product-, mean-max    the one candidate with the best

    \b
    Examples:
      openr-data eval search
      openr-data eval search --reward arithmetic-reward --plot best-of-n.svg
      openr-data eval search math500 --policy Qwen/Qwen2.5-Math-7B-Instruct --reward math-aps-prm -o n=64
    """
    if plot:
        check_plot(plot)
    check("search", flags["method"])
    check("reward", reward_run.backend)
    layer: dict[str, Any] = dict(DEFAULT) if source in ("", "arithmetic") else {"source": source}
    layer |= {name: value for name, value in flags.items() if value is not None}
    layer.setdefault("into", f"{source.partition('@')[0]}-search")
    how = _reward_run(reward_run, running, rewards)
    if rewards and not load("search", flags["method"]).independent:
        # The first reward model guides the search, all of them choose among its candidates.
        layer |= {"reward": rewards[0], "reward_format": how.format, "reward_backend": how.backend}
        running = replace(running, reward=how.live)
    resolved = plan(Store.at(store), [layer], parse_overrides(options))
    done = evaluate_search(
        store,
        resolved,
        rewards,
        running,
        how,
        progress=progress,
        announce=note,
        on_stop=lambda: note("Waiting for the requests under way; press again to stop at once."),
    )
    _tell(done, resolved)
    figures_of = {item.reward: item.figures for item in done.comparisons}
    _show(out, resolved, figures_of)
    if plot:
        from ..display.search_plots import plot_search

        name, figures = max(figures_of.items(), key=lambda item: item[1].at_n[item[1].best].mean)
        plot_search(figures, f"{resolved.config.method} with {name or 'no reward model'}", plot)
        hint(f"Drawn to {plot}.")


def _reward_run(given: RewardOptions, running: RunOptions, rewards: Sequence[str]) -> RewardRun:
    """The options of the reward models; the policy's --device is also that of a reward model in transformers."""
    live = dict(given.live)
    if rewards and (device := running.backend.get("device")) and given.backend == "transformers":
        live.setdefault("device", device)
    return RewardRun(given.backend, given.format, live, given.flags)


def _tell(done: SearchEvaluation, resolved: Plan) -> None:
    """The notes beside the figures: how the search ended, and what scoring cost."""
    job, status = done.run.job, done.run.status
    if status is None:
        note(f"The candidates of the job {job.job_id} are there already.")
    elif status.failed:
        note(f"{status.failed:,} questions failed and are not counted.")
        hint(f"Try them again with: openr-data jobs resume {job.job_id}")
    if status is not None and status.stopped_by:
        note(
            f"Stopped: {status.stopped_by}. The figures are of {status.done:,} of {status.total:,} questions. Go on, "
            f"with a higher limit, with: openr-data jobs resume {job.job_id}"
        )
    for item in done.comparisons:
        if item.reward:
            note(f"{item.reward} read {item.tokens_read:,} tokens to score {item.scored:,} solutions.")
        for reason in item.failures[:FAILURES]:
            note(f"  {reason}")
        if item.seen:
            note(seen_note(item.seen, item.figures.questions, resolved.config.source))


def _show(out: Output, resolved: Plan, figures_of: Mapping[str, SearchFigures]) -> None:
    first = next(iter(figures_of.values()))
    if out.mode == "json":
        config = resolved.config
        head = {"method": config.method, "source": resolved.read, "policy": config.policy, "into": config.into}
        out.facts(
            {**head, "rewards": [{"reward": name or None, **item.as_dict()} for name, item in figures_of.items()]}
        )
        return
    if not out.is_human:
        out.rows([{"reward": name, **row} for name, item in figures_of.items() for row in item.as_dict()["rules"]])
        return
    note(
        f"{first.questions:,} questions, {first.n} candidates each, {first.tokens:,.0f} tokens a candidate, "
        f"{first.groups:.1f} distinct answers a question; {first.without_answer:.1%} without an answer, "
        f"{first.unknown:.1%} without a verdict (counted as wrong)."
    )
    for name, item in figures_of.items():
        if item.unscored:
            note(f"{item.unscored:,} candidates could not be scored by {name}: they are never chosen.")
    places = _places(first.ks)
    out.rows([row for name, item in figures_of.items() for row in _rows(name, item, places, first=item is first)])


def _rows(name: str, item: SearchFigures, places: Sequence[int], *, first: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # The oracle comes first among equals: nothing can be better.
    order = sorted(item.at_n, key=lambda rule: (-item.at_n[rule].mean, rule != "oracle"))
    for rule in order:
        alone = rule in ("oracle", RANDOM, MAJORITY)
        if alone and not first:
            continue
        end = item.at_n[rule]
        row: dict[str, Any] = {"choice": rule, "reward": "" if alone else name}
        row |= {f"k={item.ks[place]}": f"{item.curves[rule][place]:.3f}" for place in places}
        row["95 % at N"] = f"{end.low:.3f} to {end.high:.3f}"
        over = item.over_majority.get(rule)
        row["over majority"] = f"{over.mean:+.3f} ({over.low:+.3f} to {over.high:+.3f})" if over else ""
        rows.append(row)
    return rows


def _places(ks: Sequence[int]) -> list[int]:
    """Powers of two and the last."""
    places = [place for place, k in enumerate(ks) if k.bit_count() == 1 or place == len(ks) - 1]
    return places[-POINTS:]
