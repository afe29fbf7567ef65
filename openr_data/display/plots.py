"""Plots a comparison of labeling methods: quality over the cost of a located first error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingDependency, UsageError
from ..evaluation.label_figures import Contender, MethodComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: Final = (".svg", ".png")
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""

INK: Final = "#333333"
FAINT: Final = "#dddddd"
STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    # Keep text as text, and write the same file for the same comparison.
    "svg.fonttype": "none",
    "svg.hashsalt": "openr-data",
    # A "$" in a name must not start a formula.
    "text.parse_math": False,
}
_PANELS: Final = (
    ("Exact first errors", "Share of solutions with exactly the true first error, or correctly none"),
    ("Wrong steps", "F1 of the label “bad” over steps up to the first true error"),
)


@dataclass(frozen=True, slots=True)
class _Point:
    """A method in a panel: its cost (x), its quality (y) and the ends of its interval, if it has one."""

    name: str
    colour: str
    x: float
    y: float
    interval: tuple[float, float] | None = None


def check_plot(path: str) -> None:
    """Check before any work that a plot can be written.

    Raises `UsageError` for a file name with another suffix, `MissingDependency` without matplotlib.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path!r} is not a plot file: expected a name that ends in .svg or .png.")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"A plot needs the package {error.name!r}, which is not installed. "
            "Install it with: pip install 'openr-data[plots]'"
        ) from error


@contextmanager
def drawing(path: str) -> Iterator["Figure"]:
    """Yield an empty figure in the project's style and save it to the file afterwards."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained", facecolor="white")
        yield figure
        metadata: dict[str, Any] = {"Date": None} if path.lower().endswith(".svg") else {"Software": None}
        figure.savefig(path, metadata=metadata)


def plot_comparison(comparison: MethodComparison, path: str) -> list[str]:
    """Write the plot to a file, .svg or .png; return the names of the methods that it leaves out.

    Each method is one point: the exact hits (with 95 % interval) and the F1 of "bad" over completion tokens per located
    first error. Raises `UsageError` if no method has both a quality and a cost, and what `check_plot` raises.
    """
    check_plot(path)
    shown = [method for method in comparison.contenders if _cost(method) and method.quality.exact_hit.rate is not None]
    left_out = [method.name for method in comparison.contenders if method not in shown]
    if not shown:
        raise UsageError(
            f"There is nothing to plot for {comparison.dataset}: no method has both tokens per located first error and "
            "a known truth. Show the figures with: openr-data compare " + comparison.dataset
        )
    with drawing(path) as figure:
        _draw(figure, comparison, shown)
    return left_out


def _cost(method: Contender) -> float | None:
    return method.tokens_per_located


def _draw(figure: "Figure", comparison: MethodComparison, shown: Sequence[Contender]) -> None:
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(shown))]
    panels: list[list[_Point]] = [[], []]
    for method, colour in zip(shown, colours, strict=True):
        cost, hit = _cost(method), method.quality.exact_hit
        assert cost is not None
        assert hit.rate is not None
        panels[0].append(_Point(method.name, colour, cost, hit.rate, hit.interval))
        if method.quality.f1_bad is not None:
            panels[1].append(_Point(method.name, colour, cost, method.quality.f1_bad))
    costs = [point.x for point in panels[0]]
    drawn: list[Axes] = list(figure.subplots(1, 2, sharex=True))
    for axes, points, (title, what) in zip(drawn, panels, _PANELS, strict=True):
        _frame(axes, title, what, points, costs)
        for point in points:
            _mark(axes, point)
    truth = " and ".join(f"{kind}, {count:,} solutions" for kind, count in comparison.truth.items())
    figure.supxlabel("Completion tokens per located first error (fewer is cheaper)", fontsize=10, color=INK)
    figure.suptitle(
        f"{comparison.dataset}: quality and cost of step labels   (truth: {truth})",
        x=0.01, ha="left", fontsize=11, color=INK,
    )  # fmt: skip
    # Names can be placed only once everything else has its final position.
    figure.draw_without_rendering()
    for axes, points in zip(drawn, panels, strict=True):
        _name(axes, points)


def _frame(axes: "Axes", title: str, what: str, points: Sequence[_Point], costs: Sequence[float]) -> None:
    """Set titles, scales and limits with room around the points."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.03, what, transform=axes.transAxes, fontsize=8, color="#666666")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    low, high = min(costs), max(costs)
    if high > 10 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.8, high * 2.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, high * 1.35)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    ends = [end for point in points for end in (point.interval or (point.y, point.y))] or [0.0, 1.0]
    room = max(0.06, 0.15 * (max(ends) - min(ends)))
    bottom, top = max(0.0, min(ends) - room), min(1.0, max(ends) + room)
    # The limit is a little above 1, so that a point at 1 is not cut off.
    axes.set_ylim(bottom, top + 0.02 * (top - bottom))
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _mark(axes: "Axes", point: _Point) -> None:
    if point.interval is not None:
        low, high = point.interval
        axes.vlines(point.x, low, high, color=point.colour, linewidth=1.6, alpha=0.55)
    axes.plot([point.x], [point.y], "o", color=point.colour, markersize=8, markeredgecolor="white", zorder=3)


def _name(axes: "Axes", points: Sequence[_Point]) -> None:
    """Put each name beside its point, in the place where it overlaps the fewest points, bars and names."""
    from matplotlib.transforms import Bbox

    inside = axes.get_window_extent()
    taken: list[Bbox] = []
    for point in points:
        x, y = axes.transData.transform((point.x, point.y))
        ends = axes.transData.transform([(point.x, end) for end in point.interval or (point.y, point.y)])
        taken += [Bbox([[x - 9, y - 9], [x + 9, y + 9]]), Bbox([[x - 3, ends[0][1]], [x + 3, ends[1][1]]])]
    for point in points:
        places = [(side * 9, shift) for shift in (0, 12, -12, 24, -24, 36, -36) for side in (1, -1)]
        tried = []
        for order, (right, up) in enumerate(places):
            text = axes.annotate(
                point.name, (point.x, point.y), (right, up), textcoords="offset points", color=point.colour, fontsize=9,
                ha="left" if right > 0 else "right", va="center", annotation_clip=False,
            )  # fmt: skip
            box = text.get_window_extent()
            hits = sum(box.overlaps(other) for other in taken)
            out = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 + 20 and inside.y0 <= box.y0 <= box.y1 <= inside.y1)
            tried.append((hits + 2 * out, order, text, box))
        _, _, _, box = best = min(tried, key=lambda attempt: attempt[:2])
        for attempt in tried:
            if attempt is not best:
                attempt[2].remove()
        taken.append(box)
