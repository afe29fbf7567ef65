"""`openr-data compare`: compares the quality and the cost of labeling methods."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click

from ..display.plots import check_plot, plot_comparison
from ..display.terminal import money
from ..evaluation.label_figures import Contender, MethodComparison, Share
from ..evaluation.labels import compare
from ..store import Store
from .output import Output, hint, note, output_options

FIGURES: Final[tuple[tuple[str, Callable[[Contender], str]], ...]] = (
    ("job", lambda item: item.job_id),
    ("questions", lambda item: f"{item.questions:,}"),
    ("label sets", lambda item: f"{item.label_sets:,}"),
    ("labelled steps", lambda item: f"{item.steps:,}"),
    ("good", lambda item: f"{item.good:,}"),
    ("bad", lambda item: f"{item.bad:,}"),
    ("unjudged", lambda item: f"{item.unjudged:,}"),
    ("first errors", lambda item: f"{item.located:,}"),
    ("policy calls", lambda item: _count(item.calls)),
    ("completion tokens", lambda item: _count(item.tokens)),
    ("cost", lambda item: "" if item.cost is None else money(item.cost, item.currency)),
    ("calls per first error", lambda item: _per(item.calls_per_located)),
    ("tokens per first error", lambda item: _per(item.tokens_per_located)),
)
QUALITY: Final[tuple[tuple[str, Callable[[Contender], str]], ...]] = (
    ("solutions with truth", lambda item: f"{item.quality.solutions:,}"),
    ("undecided", lambda item: f"{item.quality.undecided:,}"),
    ("precision of bad", lambda item: _rate(item.quality.precision)),
    ("recall of bad", lambda item: _rate(item.quality.recall)),
    ("F1 of bad", lambda item: _rate(item.quality.f1_bad)),
    ("F1 of good", lambda item: _rate(item.quality.f1_good)),
    ("exact first error", lambda item: _share(item.quality.exact_hit)),
    ("on erroneous solutions", lambda item: _rate(item.quality.on_erroneous.rate)),
    ("on correct solutions", lambda item: _rate(item.quality.on_correct.rate)),
    ("ProcessBench F1", lambda item: _rate(item.quality.processbench_f1)),
    ("false zeros", lambda item: _share(item.quality.false_zeros)),
    ("ECE of values", lambda item: _rate(item.quality.calibration.ece if item.quality.calibration else None)),
    ("Brier score of values", lambda item: _rate(item.quality.calibration.brier if item.quality.calibration else None)),
)


@click.command("compare")
@click.argument("name")
@click.option("--methods", default="", metavar="A,B,…", help="Methods, jobs or METHOD/JOB (default: all but people).")
@click.option("--truth", default="", metavar="NAME", help="oracle, human or a method (default: the first there is).")
@click.option("--plot", default="", metavar="FILE", help="Draw quality over cost, to .svg or .png.")
@output_options
@click.pass_obj
def compare_(store: str, /, name: str, methods: str, truth: str, plot: str, out: Output) -> None:
    """Compare the quality and the cost of the labeling methods of the dataset NAME or NAME@ref.

    No policy is called. Quality is measured against the oracle of the questions' source, against people that labelled
    the same solutions, or against the method of --truth; cost is what the jobs recorded. A method with several jobs
    is listed by job.

    \b
    Figures:
      first errors       distinct prefixes that end in the first bad step
      undecided          an unjudged step and no bad one: neither an error nor its absence is known
      precision, recall  over steps up to the first true error; "neutral" counts as not wrong
      exact first error  the first error is exactly the true one, or rightly none (95 % interval)
      ProcessBench F1    harmonic mean of that on erroneous and on correct solutions
      false zeros        labelled bad, though not wrong, of all labelled bad (95 % interval)
      ECE, Brier score   how far values are from the chance that the step is good

    \b
    Examples:
      openr-data compare arithmetic
      openr-data compare arithmetic --methods omegaprm,math-shepherd --plot methods.png
      openr-data compare math-aps --truth human --json
    """
    if plot:
        check_plot(plot)
    comparison = compare(
        Store.open(store).view(name), [item.strip() for item in methods.split(",") if item.strip()], truth
    )
    if out.mode == "json":
        out.facts(comparison.as_dict())
    elif out.mode in ("human", "markdown"):
        _tables(comparison, out)
    else:
        out.rows([item.as_dict() for item in comparison.contenders])
    for sentence in _remarks(comparison):
        note(sentence)
    if plot:
        left_out = plot_comparison(comparison, plot)
        without = f" without {', '.join(left_out)}: no tokens per first error, or no truth" if left_out else ""
        hint(f"Drawn to {plot}{without}.")


def _tables(comparison: MethodComparison, out: Output) -> None:
    """Print figures as rows and methods as columns, then values by tenths, then every pair."""
    names = [item.name for item in comparison.contenders]
    figures = [*FIGURES, *(QUALITY if comparison.truth else ())]
    rows = [[figure, *(cell(item) for item in comparison.contenders)] for figure, cell in figures]
    tables = [(["figure", *names], [row for row in rows if any(row[1:])])]
    if any(item.quality.calibration for item in comparison.contenders):
        tables.append((["steps truly good, by value", *names], list(_bins(comparison.contenders))))
    if comparison.pairs:
        head = ["method", "other", "common solutions", "steps", "agreement", "kappa", "same first error"]
        tables.append((head, list(_pairs(comparison))))
    for place, (columns, lines) in enumerate(tables):
        if place:
            click.echo()
        # Two columns may have one name; trailing blanks, which a table does not show, keep them apart.
        keys = [f"{column}{' ' * columns[:i].count(column)}" for i, column in enumerate(columns)]
        out.rows([dict(zip(keys, line, strict=True)) for line in lines], keys)


def _bins(contenders: Sequence[Contender]) -> Iterator[list[str]]:
    bins = [
        {item.low: item for item in each.quality.calibration.bins} if each.quality.calibration else {}
        for each in contenders
    ]
    for low in sorted({low for each in bins for low in each}):
        cells = [f"{each[low].good:.3f} of {each[low].n:,}" if low in each else "" for each in bins]
        yield [f"{low:.1f} to {low + 0.1:.1f}", *cells]


def _pairs(comparison: MethodComparison) -> Iterator[list[str]]:
    for pair in comparison.pairs:
        agreement = pair.agreement
        yield [
            pair.first, pair.second, f"{pair.solutions:,}", f"{agreement.steps:,}", _rate(agreement.rate),
            _rate(agreement.kappa), _rate(pair.same_first_error.rate),
        ]  # fmt: skip


def _remarks(comparison: MethodComparison) -> Iterator[str]:
    """Remarks that belong to the figures."""
    if comparison.truth:
        truths = ", ".join(f"{kind} ({count:,} solutions)" for kind, count in comparison.truth.items())
        yield f"Truth: {truths}."
        blind = [item.name for item in comparison.contenders if not item.quality.solutions]
        if blind:
            yield f"No truth is known about the solutions of {', '.join(blind)}."
    else:
        yield (
            f"No truth is known about these solutions of {comparison.dataset}: "
            "the comparison shows only cost and agreement. Take a method at its word with: --truth METHOD"
        )
    if comparison.unreadable:
        yield f"{comparison.unreadable:,} solutions could not be judged: their questions lack what the oracle needs."
    if comparison.pairs and not any(pair.solutions for pair in comparison.pairs):
        yield "No two of the methods label a solution in common, so they have no agreement."


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _per(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(share: Share) -> str:
    low, high = share.interval or (0.0, 0.0)
    return f"{_rate(share.rate)} ({low:.3f} to {high:.3f})" if share.whole else ""
