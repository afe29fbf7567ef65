"""Plots an evaluation of a reward model: calibration of its scores, and F1 over the threshold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..evaluation.prm_figures import PrmEvaluation, PrmFigures
from .plots import COLOURS, FAINT, INK, check_plot, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRIP: Final = 0.035
"""Height of the strip that shows the distribution of a set's scores, in units of the axis."""


def plot_prm(evaluation: PrmEvaluation, path: str) -> None:
    """Draw an evaluation to .svg or .png, one colour per set. Raises what `check_plot` raises.

    Left: the share of good steps over the mean score of a bin; below it the bins, darker where steps are denser. Right:
    first-error F1 at every threshold, with marks at 0.5, at the model's own threshold and at the one chosen on a dev
    set.
    """
    check_plot(path)
    with drawing(path) as figure:
        _draw(figure, evaluation)


def _draw(figure: "Figure", evaluation: PrmEvaluation) -> None:
    left, right = figure.subplots(1, 2)
    sets = evaluation.sets
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(sets))]
    _frame(left, "Reliability", "Share of good steps by score; on the diagonal a score is a probability")
    left.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    for place, (figures, colour) in enumerate(zip(sets, colours, strict=True)):
        _reliability(left, figures, colour, place)
    left.set_xlabel("Score of a step")
    left.set_ylabel("Share of good steps")
    left.set_ylim(-_STRIP * (len(sets) + 0.5), 1.02)
    _frame(right, "First errors", "ProcessBench F1 when a step scored below the threshold counts as wrong")
    for figures, colour in zip(sets, colours, strict=True):
        _f1(right, figures, colour)
    _marks(right, evaluation, sets, colours)
    right.set_xlabel("Threshold")
    right.set_ylabel("F1")
    right.set_ylim(-0.02, 1.02)
    # The legend is below both panels because names are long and any corner may hold points.
    figure.legend(handles=left.lines[1:], loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(evaluation.model, x=0.01, ha="left", fontsize=11, color=INK)


def _frame(axes: "Axes", title: str, what: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.03, what, transform=axes.transAxes, fontsize=8, color="#666666")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.02, 1.02)


def _reliability(axes: "Axes", figures: PrmFigures, colour: str, place: int) -> None:
    from matplotlib.patches import Rectangle

    bins = figures.steps.bins
    caption = f"{figures.steps.steps:,} steps" + ("" if figures.steps.ece is None else f", ECE {figures.steps.ece:.3f}")
    axes.plot(
        [each.mean_score for each in bins],
        [each.mean_truth for each in bins],
        "o-", color=colour, markersize=5, markeredgecolor="white", linewidth=1.4,
        label=f"{Path(figures.name).name} ({caption})",
    )  # fmt: skip
    # A bin with a single score has no width, but must be visible.
    widths = [max(each.high - each.low, 0.004) for each in bins]
    density = [each.steps / width for each, width in zip(bins, widths, strict=True)]
    for each, width, dense in zip(bins, widths, density, strict=True):
        corner = ((each.low + each.high - width) / 2, -_STRIP * (place + 1))
        shade = 0.12 + 0.88 * (dense / max(density)) ** 0.5
        axes.add_patch(Rectangle(corner, width, _STRIP * 0.8, facecolor=colour, alpha=shade, linewidth=0))


def _f1(axes: "Axes", figures: PrmFigures, colour: str) -> None:
    points = [
        (threshold, f1)
        for threshold, f1 in zip(figures.curve["threshold"], figures.curve["f1"], strict=True)
        if threshold is not None and f1 is not None
    ]
    axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=1.4, drawstyle="steps-mid")


def _marks(axes: "Axes", evaluation: PrmEvaluation, sets: Sequence[PrmFigures], colours: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    for shape, name in (("o", "at_half"), ("s", "at_own"), ("^", "at_dev")):
        threshold = None
        for figures, colour in zip(sets, colours, strict=True):
            at = getattr(figures, name)
            if at is None:
                continue
            threshold = at.threshold
            if at.f1 is not None:
                axes.plot([threshold], [at.f1], shape, color=colour, markersize=8, markeredgecolor="white", zorder=3)
        if threshold is None:
            continue
        label = {"at_half": "0.5", "at_own": f"own, {threshold:.3g}"}.get(name, "")
        label = label or f"best on {Path(evaluation.dev.name).name if evaluation.dev else 'dev'}, {threshold:.3g}"
        handles.append(
            Line2D([], [], marker=shape, linestyle="", color="#666666", markeredgecolor="white", label=label)
        )
    axes.legend(handles=handles, loc="best", frameon=False, fontsize=8)
