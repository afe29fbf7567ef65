"""Plots an evaluation of a search: accuracy over the number of candidates and over their tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..evaluation.search_figures import MAJORITY, ORACLE, RANDOM, SearchFigures
from .plots import COLOURS, INK, check_plot, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY: Final = "#888888"


def plot_search(figures: SearchFigures, title: str, path: str, rules: Sequence[str] = ()) -> None:
    """Draw the curves of `rules` to .svg or .png (default: the best vote and the best pick by a reward model).

    The oracle, a random pick and the majority are always drawn, as bounds and baseline. Bars at the end are 95 %
    intervals over questions. Raises what `check_plot` raises.
    """
    check_plot(path)
    with drawing(path) as figure:
        _draw(figure, figures, title, rules or shown_rules(figures))


def shown_rules(figures: SearchFigures) -> list[str]:
    """Return the best vote and the best pick by a reward model, if one has scored the candidates."""
    rules: list[str] = []
    for kind in ("-vote", "-max"):
        names = [name for name in figures.at_n if name.endswith(kind)]
        rules += [max(names, key=lambda name: figures.at_n[name].mean)] if names else []
    return rules


def _draw(figure: "Figure", figures: SearchFigures, title: str, rules: Sequence[str]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    tokens = [k * figures.tokens for k in figures.ks]
    for axes, xs, label in (
        (left, list(map(float, figures.ks)), "Candidates per question (k)"),
        (right, tokens, "Generated tokens per question"),
    ):
        _curves(axes, xs, figures, rules)
        axes.set_xscale("log", base=2)
        _ticks(axes, xs)
        axes.set_xlabel(label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    left.set_ylabel("Questions answered correctly")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.suptitle(f"{title}   ({figures.questions:,} questions)", x=0.01, ha="left", fontsize=11, color=INK)


def _curves(axes: "Axes", xs: list[float], figures: SearchFigures, rules: Sequence[str]) -> None:
    lines = [(ORACLE, _GREY, ":"), *((rule, COLOURS[i], "-") for i, rule in enumerate(rules))]
    lines += [(MAJORITY, "#000000", "--"), (RANDOM, _GREY, ":")]
    ends: list[float] = []
    for place, (name, colour, dashes) in enumerate(sorted(lines, key=lambda line: figures.at_n[line[0]].mean)):
        curve, end = figures.curves[name], figures.at_n[name]
        axes.plot(xs, curve, dashes, color=colour, linewidth=1.8)
        x = xs[-1] * 1.03 ** (place % 3)
        axes.vlines(x, end.low, end.high, color=colour, linewidth=1.4, alpha=0.6)
        # Names stand beside the ends of their lines, far enough apart to be readable.
        y = max([end.mean, *(other + 0.035 for other in ends)])
        ends.append(y)
        axes.annotate(name, (xs[-1] * 1.15, y), color=colour, fontsize=9, va="center", annotation_clip=False)
    axes.set_xlim(xs[0] * 0.95, xs[-1] * 2.6)


def _ticks(axes: "Axes", xs: list[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    places = [x for x in xs if round(x / xs[0]).bit_count() == 1]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
