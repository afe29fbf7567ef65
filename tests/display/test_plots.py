"""Checks the plot of a comparison: every method is in its place, with its name and its interval."""

import re
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from openr_data.display.plots import check_plot, plot_comparison
from openr_data.errors import MissingDependency, UsageError
from openr_data.evaluation.label_figures import Contender, MethodComparison, Quality, Share

Drawn = Callable[..., tuple[Figure, list[str]]]


def a_contender(name: str, tokens: int | None = 7_000, hits: int = 80, missed: int = 10, **more: Any) -> Contender:
    """Make a method with ten first errors that hits this share of a hundred solutions exactly."""
    quality = Quality(100, 0, Share(hits - 40, 60), Share(40, 40), true_bad=40, false_bad=10, missed_bad=missed)
    return Contender(name, name, "j", tokens=tokens, **{"located": 10, "quality": quality, **more})


def a_comparison(*contenders: Contender, name: str = "d") -> MethodComparison:
    return MethodComparison(name, {"oracle": 1_200}, contenders, ())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Drawn:
    """Draw a comparison and return the saved figure and the names left out."""
    figures: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remember)

    def draw(*contenders: Contender) -> tuple[Figure, list[str]]:
        left_out = plot_comparison(a_comparison(*contenders), str(tmp_path / "x.png"))
        return figures.pop(), left_out

    return draw


def points(axes: Axes) -> list[tuple[float, float]]:
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines]  # type: ignore[index,arg-type]


def names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text() and " " not in text.get_text()]


def boxes(axes: Axes) -> list[Bbox]:
    return [text.get_window_extent() for text in axes.texts if text.get_text() in names(axes)]


def test_each_method_is_a_named_point_with_its_interval(drawn: Drawn) -> None:
    cheap, dear = a_contender("cheap", 3_000, hits=90, missed=30), a_contender("dear", 9_000, hits=70)
    figure, left_out = drawn(cheap, dear)
    hits, f1 = figure.axes
    assert left_out == []
    assert points(hits) == [(300.0, 0.9), (900.0, 0.7)]
    assert points(f1) == [(300.0, pytest.approx(80 / 120)), (900.0, pytest.approx(0.8))]
    assert names(hits) == names(f1) == ["cheap", "dear"]
    bars = [path.vertices[:, 1].tolist() for item in hits.collections for path in item.get_paths()]
    assert bars == [pytest.approx(item.quality.exact_hit.interval) for item in (cheap, dear)]
    assert not f1.collections
    colours = [line.get_color() for line in hits.lines]
    assert len(set(colours)) == 2
    assert colours == [line.get_color() for line in f1.lines]


def test_the_axes_say_in_words_what_they_show(drawn: Drawn) -> None:
    figure, _ = drawn(a_contender("m"))
    assert figure.get_supxlabel() == "Completion tokens per located first error (fewer is cheaper)"
    assert figure.get_suptitle().startswith("d: quality and cost of step labels")
    assert "(truth: oracle, 1,200 solutions)" in figure.get_suptitle()
    assert [axes.get_title("left").strip() for axes in figure.axes] == ["Exact first errors", "Wrong steps"]
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(("dearest", "scale"), [(9_990, "linear"), (10_010, "log"), (9_000_000, "log")])
def test_more_than_a_decade_of_prices_is_drawn_by_decades(drawn: Drawn, dearest: int, scale: str) -> None:
    figure, _ = drawn(a_contender("a", 1_000), a_contender("b", dearest))
    assert [axes.get_xscale() for axes in figure.axes] == [scale] * 2
    low, high = figure.axes[0].get_xlim()
    assert low < 100 < dearest / 10 < high


@pytest.mark.parametrize("hits", [[40, 40], [100, 100], [100, 99, 98]])
def test_points_at_the_ends_are_whole(drawn: Drawn, hits: list[int]) -> None:
    figure, _ = drawn(*(a_contender(f"m{i}", 1_000 * (i + 1), hits=hit) for i, hit in enumerate(hits)))
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert all(low < y < high for _, y in points(axes))


def test_names_of_near_points_do_not_lie_over_each_other(drawn: Drawn) -> None:
    near = [a_contender(f"math-shepherd/{i}aabbc", 9_000 + 40 * i, hits=80 + i % 3) for i in range(5)]
    figure, _ = drawn(*near, a_contender("far", 800))
    for axes in figure.axes:
        assert len(boxes(axes)) == 6
        assert not any(one.overlaps(other) for one, other in combinations(boxes(axes), 2))
        inside = axes.get_window_extent()
        assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 + 20 for box in boxes(axes))


def test_what_has_no_price_or_no_truth_is_left_out_and_named(drawn: Drawn) -> None:
    unjudged = Contender("unjudged", "unjudged", "j", located=10, tokens=100)
    free = a_contender("free", located=0)
    figure, left_out = drawn(a_contender("bought", None), a_contender("m"), unjudged, free)
    assert left_out == ["bought", "unjudged", "free"]
    assert names(figure.axes[0]) == ["m"]


def test_a_method_that_calls_nothing_bad_has_a_place_by_its_hits_alone(drawn: Drawn) -> None:
    figure, left_out = drawn(a_contender("m"), a_contender("blind", quality=Quality(9, 0, Share(), Share(9, 9))))
    assert left_out == []
    assert [names(axes) for axes in figure.axes] == [["m", "blind"], ["m"]]


@pytest.mark.parametrize("contenders", [(), (a_contender("m", None),), (Contender("m", "m", "j"),)])
def test_nothing_to_plot_is_told_and_no_file_is_made(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    path = tmp_path / "x.svg"
    with pytest.raises(UsageError, match="There is nothing to plot for d: no method has both tokens"):
        plot_comparison(a_comparison(*contenders), str(path))
    assert not path.exists()


def test_svg_holds_its_words_as_text_and_is_the_same_each_time(tmp_path: Path) -> None:
    comparison = a_comparison(a_contender("omegaprm", 1_000), a_contender("a$b$", 90_000), name="math-aps@v1")
    for name in ("a.svg", "b.SVG"):
        plot_comparison(comparison, str(tmp_path / name))
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.SVG").read_text()
    words = re.findall(r">([^<>]+)</text>", text)
    assert {"omegaprm", "a$b$", "Wrong steps", "1,000"} <= set(words)
    assert any(word.startswith("math-aps@v1: ") for word in words)


def test_png_is_a_picture_on_white(tmp_path: Path) -> None:
    plot_comparison(a_comparison(a_contender("m")), str(tmp_path / "x.png"))
    picture = imread(str(tmp_path / "x.png"))
    assert picture.shape[0] >= 600
    assert picture.shape[1] >= 1_200
    assert (picture[[0, -1], :, :3] == 1).all()
    assert (picture[:, [0, -1], :3] == 1).all()
    assert 0.8 < float((picture[..., :3].min(axis=2) > 0.99).mean()) < 0.995


@pytest.mark.parametrize("path", ["x.jpg", "x", "png", "x.png.txt"])
def test_a_file_of_another_kind_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"is not a plot file: expected a name that ends in \.svg or \.png"):
        check_plot(path)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"needs the package 'matplotlib'.*pip install 'openr-data\[plots\]'"):
        check_plot("x.svg")
