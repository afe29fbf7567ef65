"""Checks that the plot of a search names its curves and contains every point."""

from dataclasses import replace
from pathlib import Path

import pytest

from openr_data.display.search_plots import plot_search, shown_rules
from openr_data.errors import UsageError
from openr_data.evaluation.search_figures import evaluate
from tests.evaluation.test_search import SCORES, TWO_WRONG, asked


def test_the_best_vote_and_the_best_pick_are_drawn_beside_what_they_lie_between(tmp_path: Path) -> None:
    figures = evaluate([TWO_WRONG, asked(("1", True), ("1", True), ("2", False), ("1", True), name="r")], SCORES)
    assert [name.split("-")[1] for name in shown_rules(figures)] == ["vote", "max"]
    path = str(tmp_path / "plot.svg")
    plot_search(figures, "a $title$ with signs", path)
    text = Path(path).read_text()
    for name in (*shown_rules(figures), "majority", "oracle", "random", "a $title$ with signs", "(2 questions)"):
        assert f">{name}" in text or name in text, name
    before = Path(path).read_bytes()
    plot_search(figures, "a $title$ with signs", path)
    assert Path(path).read_bytes() == before


def test_without_a_reward_model_and_with_one_candidate_there_is_a_plot_too(tmp_path: Path) -> None:
    figures = evaluate([asked(("1", True))], None)
    assert shown_rules(figures) == []
    plot_search(replace(figures), "one", str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").stat().st_size > 1_000


def test_another_suffix_is_refused() -> None:
    with pytest.raises(UsageError, match="is not a plot file"):
        plot_search(evaluate([TWO_WRONG], None), "t", "plot.pdf")
