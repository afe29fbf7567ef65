"""`openr-data eval search`: how often a way to search and to choose finds the right answer."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import click

from ..config import parse_overrides
from ..display.plots import check_plot
from ..errors import UsageError
from ..evaluation.scores import ScoreStore, case_id, score_all
from ..evaluation.search import MAJORITY, RANDOM, Asked, Scores, SearchFigures, evaluate, group_answers, read_rollouts
from ..evaluation.seen_questions import seen_questions, seen_told
from ..jobs.job import Job
from ..jobs.plan import Plan, plan
from ..jobs.start import RunOptions
from ..models import model_entry
from ..overlap import count_seen
from ..registry import check, load
from ..store import Store
from .label import run_job, run_options
from .output import Output, hint, note, output_options

DEFAULT: Final[Mapping[str, Any]] = {
    "source": "arithmetic", "split": "test", "into": "arithmetic-search", "policy": "arithmetic", "limit": 200,
}  # fmt: skip
"""The search where no questions are named."""
POINTS: Final = 9
"""Numbers of candidates that are listed."""


@click.command("search")
@click.argument("source", default="")
@click.option("--method", default="best-of-n", show_default=True, help="How to search: best-of-n.")
@click.option(
    "--reward", "rewards", multiple=True, metavar="MODEL", help="A reward model to choose with; again for more."
)
@click.option(
    "--reward-backend", default="transformers", show_default=True, help="What runs it: transformers, vllm, openai."
)
@click.option("--reward-url", multiple=True, metavar="URL", help="openai: a server of it, again for more of the same.")
@click.option(
    "--reward-tokenizer",
    default="",
    metavar="NAME",
    help="openai: its folder or Hub name, if it is served under another.",
)
@click.option("--reward-format", default="", metavar="NAME", help="How it reads steps, if it does not say so.")
@click.option("--policy", help="The model that answers.")
@click.option("--backend", help="What runs the policy: transformers, vllm, openai.")
@click.option("--into", help="The dataset that keeps the rollouts (default: NAME-search).")
@click.option("--split", help="Only questions of this split.")
@click.option("--limit", type=click.IntRange(min=0), help="Only so many questions (0: all).")
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
    reward_backend: str,
    reward_url: tuple[str, ...],
    reward_tokenizer: str,
    reward_format: str,
    options: tuple[str, ...],
    plot: str,
    running: RunOptions,
    out: Output,
    **flags: Any,
) -> None:
    """Answer the questions of SOURCE by a search, and say how often each way to choose among the answers is right.

    The rollouts are stored: the same command again asks nothing, and another reward model is compared on the same
    candidates. No search sees a gold answer. Accuracy is told for every number of candidates up to N from the one run,
    exactly, with 95 % intervals over questions; "oracle" is right where any candidate is, "random" picks blindly.

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
    check("reward", reward_backend)
    kind: Any = load("reward", reward_backend) if rewards else None
    live = {"device": running.backend.get("device"), "base_url": list(reward_url), "format": reward_format}
    live["tokenizer"] = reward_tokenizer
    known = getattr(kind, "live_options", ())
    live = {name: value for name, value in live.items() if value and name in known}
    for name in rewards:
        # Before anything is paid for: the files are looked at, or the servers are asked what they serve.
        if hasattr(kind, "check"):
            kind.check(name, reward_format)
        else:
            kind(name, **live).close()
    layer: dict[str, Any] = dict(DEFAULT) if source in ("", "arithmetic") else {"source": source}
    layer |= {name: value for name, value in flags.items() if value is not None}
    layer.setdefault("into", f"{source.partition('@')[0]}-search")
    resolved = plan(Store.at(store), [layer], parse_overrides(options))
    if not resolved.config.rollout_text:
        raise UsageError("A search needs the text of its rollouts: it is scored and compared later.")
    job = _searched(store, resolved, running)
    opened = Store.open(store)
    view = opened.view(resolved.config.into)
    read = read_rollouts(view, job.job_id, model_entry(resolved.config.policy).separator)
    with closing(resolved.grader()) as grader:
        asked = asyncio.run(group_answers(read, grader))
    found: dict[str, SearchFigures] = {"": evaluate(asked, None)} if not rewards else {}
    for name in rewards:
        scores, spent = _scored(opened, job, kind, name, live, asked)
        found[name] = evaluate(asked, scores)
        note(f"{name} read {spent:,} tokens to score {len(scores):,} solutions.")
        if (seen := seen_questions(name, is_local=reward_backend != "openai")) and (
            count := count_seen((text for _, text, _ in read), seen)
        ):
            note(seen_told(count, len(read), resolved.config.source))
    _show(out, resolved, found)
    if plot:
        from ..display.search_plots import plot_search

        name, figures = max(found.items(), key=lambda item: item[1].at_n[item[1].best].mean)
        plot_search(figures, f"{resolved.config.method} with {name or 'no reward model'}", plot)
        hint(f"Drawn to {plot}.")


def _searched(store: str, resolved: Plan, running: RunOptions) -> Job:
    """The job of the search, run to its end; nothing is asked where it is there already."""
    job_id = resolved.config.job_id()
    ran = run_job(store, resolved, running)
    job, status = ran.job, ran.status
    if status is None:
        note(f"The rollouts of the job {job_id} are there already.")
        return job
    if status.failed:
        note(f"{status.failed:,} questions failed and are not counted.")
        hint(f"Try them again with: openr-data jobs resume {job_id}")
    if status.stopped_by:
        note(f"Stopped: {status.stopped_by}. Told is what is there: {status.done:,} of {status.total:,} questions.")
    return job


def _show(out: Output, resolved: Plan, found: Mapping[str, SearchFigures]) -> None:
    first = next(iter(found.values()))
    if out.mode == "json":
        config = resolved.config
        head = {"method": config.method, "source": resolved.read, "policy": config.policy, "into": config.into}
        out.facts({**head, "rewards": [{"reward": name or None, **item.as_dict()} for name, item in found.items()]})
        return
    if not out.is_human:
        out.rows([{"reward": name, **row} for name, item in found.items() for row in item.as_dict()["rules"]])
        return
    note(
        f"{first.questions:,} questions, {first.n} candidates each, {first.tokens:,.0f} tokens a candidate, "
        f"{first.groups:.1f} distinct answers a question; {first.without_answer:.1%} without an answer, "
        f"{first.unknown:.1%} without a verdict (counted as wrong)."
    )
    for name, item in found.items():
        if item.unscored:
            note(f"{item.unscored:,} candidates could not be scored by {name}: they are never chosen.")
    places = _places(first.ks)
    out.rows([row for name, item in found.items() for row in _rows(name, item, places, first=item is first)])


def _rows(name: str, item: SearchFigures, places: Sequence[int], *, first: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # Of equals the oracle comes first: nothing can be better.
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
    found = [place for place, k in enumerate(ks) if k.bit_count() == 1 or place == len(ks) - 1]
    return found[-POINTS:]


def _scored(
    store: Store, job: Job, kind: Any, model: str, live: Mapping[str, Any], asked: Sequence[Asked]
) -> tuple[Scores, int]:
    """Step scores of the candidates that have an answer, from the job folder or by the model; and what it read."""
    cases = {
        (item.question_id, candidate.steps): (item.question, candidate.steps)
        for item in asked
        for candidate in item.candidates
        if candidate.steps and candidate.answer is not None
    }
    with closing(kind(model, **live)) as reward:
        listed = {"method": "eval search", "source": job.job_id, "into": model, "reward": reward.name}
        scored = Job.begin(store, "eval", listed, {})
        with scored.lock():
            kept = ScoreStore(scored.path)
            failures = asyncio.run(score_all(reward, cases.values(), kept))
            scored.finish({"total": len(cases), "failed": len(failures), "tokens_read": reward.tokens_read})
        spent = int(reward.tokens_read)
    for reason in list(failures.values())[:3]:
        note(f"  {reason}")
    found = {key: kept.known.get(case_id(*case)) for key, case in cases.items()}
    return {key: scores for key, scores in found.items() if scores is not None}, spent
