"""Checks the plot of an evaluation: each set has a line of bins and a curve of F1 with marks at its thresholds."""

import re
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from openr_data.display.prm_plots import plot_prm
from openr_data.errors import UsageError
from openr_data.evaluation.judged_solutions import JudgedSet
from openr_data.evaluation.prm_figures import DevThreshold, PrmEvaluation, figures_of
from tests.evaluation.test_prm import judged, scored


def an_evaluation(*names: str, dev: float | None = None) -> PrmEvaluation:
    rows = []
    for place, name in enumerate(names):
        each = judged(name, (1, -1), (1, 1), (-1, 1), (1, 1), generator="x")
        other = judged(f"{name}-", (1, 1), generator="y")
        both = JudgedSet(name, each.solutions + other.solutions)
        low = 0.1 + place / 10
        scores = scored(both, (0.9, low), (0.9, 0.6), (0.45, 0.7), (0.8, 0.8), (0.95, 0.3))
        rows += figures_of(both, scores, 0.4, dev)
    chosen = None if dev is None else DevThreshold("tuned", dev, 10, 0, 0)
    return PrmEvaluation("my-prm", "my-prm@1", 0.4, tuple(rows), chosen)


@pytest.fixture
def saved_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *arguments: object, **options: object) -> None:
        figures.append(self)
        save(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def drawn(evaluation: PrmEvaluation, saved_figures: list[Figure], path: Path) -> tuple[Axes, Axes]:
    plot_prm(evaluation, str(path))
    left, right = saved_figures[-1].axes
    return left, right


def xy(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]  # type: ignore[arg-type]


def test_a_set_is_a_line_of_its_bins_and_a_strip_of_where_they_lie(saved_figures: list[Figure], tmp_path: Path) -> None:
    evaluation = an_evaluation("a", "b")
    left, _ = drawn(evaluation, saved_figures, tmp_path / "x.png")
    diagonal, *lines = left.lines
    assert xy(diagonal) == [(0, 0), (1, 1)]
    for line, item in zip(lines, evaluation.sets, strict=True):
        assert xy(line) == [(each.mean_score, each.mean_truth) for each in item.steps.bins]
    bins = [each for item in evaluation.sets for each in item.steps.bins]
    assert len(left.patches) == len(bins)
    bottom, _ = left.get_ylim()
    for patch, each in zip(left.patches, bins, strict=True):
        box = patch.get_extents().transformed(left.transData.inverted())
        assert box.x0 <= each.low
        assert each.high <= box.x1
        assert bottom < box.y0 < box.y1 <= 0
    assert lines[0].get_color() != lines[1].get_color()


def test_a_bin_is_the_darker_the_more_steps_lie_in_the_same_space(saved_figures: list[Figure], tmp_path: Path) -> None:
    each = judged("a", *[(1,)] * 60)
    scores = scored(each, *[(0.5,)] * 30, *[(0.6 + i / 100,) for i in range(30)])
    evaluation = PrmEvaluation("m", "m@1", 0.5, tuple(figures_of(each, scores, 0.5)))
    left, _ = drawn(evaluation, saved_figures, tmp_path / "x.png")
    shades = [patch.get_alpha() or 0 for patch in left.patches]
    assert len(shades) > 3
    assert shades[0] == 1.0
    assert all(0.1 < shade < 0.5 for shade in shades[1:])


def test_the_curve_of_a_set_is_marked_at_the_thresholds_it_was_measured_at(
    saved_figures: list[Figure], tmp_path: Path
) -> None:
    evaluation = an_evaluation("a", "b", dev=0.47)
    _, right = drawn(evaluation, saved_figures, tmp_path / "x.png")
    curves, marks = right.lines[:2], right.lines[2:]
    for line, item in zip(curves, evaluation.sets, strict=True):
        points = xy(line)
        assert (points[0][0], points[-1][0]) == (0.0, 1.0)
        assert dict(points)[0.5] == item.at_half.f1
    expected = [
        (at.threshold, at.f1)
        for name in ("at_half", "at_own", "at_dev")
        for item in evaluation.sets
        if (at := getattr(item, name)) is not None
    ]
    assert [xy(line) for line in marks] == [[point] for point in expected]
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["0.5", "own, 0.4", "best on tuned, 0.47"]


def test_without_a_dev_set_there_is_no_mark_for_it_and_groups_are_not_drawn(
    saved_figures: list[Figure], tmp_path: Path
) -> None:
    evaluation = an_evaluation("folder/a")
    assert len(evaluation.rows) == 3
    left, right = drawn(evaluation, saved_figures, tmp_path / "x.png")
    assert len(left.lines) == 2
    assert len(right.lines) == 1 + 2
    (legend,) = saved_figures[-1].legends
    ece = evaluation.sets[0].steps.ece
    assert [text.get_text() for text in legend.get_texts()] == [f"a (9 steps, ECE {ece:.3f})"]


def test_a_set_without_f1_or_without_scores_is_drawn_as_far_as_it_goes(
    saved_figures: list[Figure], tmp_path: Path
) -> None:
    each = judged("a", (1, 1), (1, 1))
    rows = (*figures_of(each, scored(each, (0.9, 0.8), (0.7, 0.6)), 0.5), *figures_of(judged("b", (1, -1)), {}, 0.5))
    left, right = drawn(PrmEvaluation("m", "m@1", 0.5, rows), saved_figures, tmp_path / "x.png")
    assert [len(xy(line)) for line in left.lines] == [2, 4, 0]
    assert [len(xy(line)) for line in right.lines] == [0, 0]


def test_svg_holds_its_words_as_text_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.SVG"):
        plot_prm(an_evaluation("gsm8k$x$.json", "math", dev=0.3), str(tmp_path / name))
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.SVG").read_text()
    words = " ".join(re.findall(r">([^<>]+)</text>", text))
    for expected in ("my-prm", "Reliability", "First errors", "gsm8k$x$.json", "Share of good steps", "own, 0.4"):
        assert expected in words


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a plot file"):
        plot_prm(an_evaluation("a"), str(tmp_path / "x.pdf"))
    assert not list(tmp_path.iterdir())
