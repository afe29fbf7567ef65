"""An evaluation of a reward model: every figure worked out by hand or by a second way, and nothing scored twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openr_data.errors import InputError, Interrupted, PolicyError, PolicyLost, UnknownName, UsageError
from openr_data.evaluation import score_table
from openr_data.evaluation import scores as score_store
from openr_data.evaluation.judged_solutions import JudgedSet, JudgedSolution, labelled_data
from openr_data.evaluation.prm import Evaluated, EvaluatePrm, PrmEvaluationConfig, model_mark
from openr_data.evaluation.prm_figures import PrmEvaluation, PrmFigures, choose_threshold, figures_of
from openr_data.jobs.job import Job
from openr_data.metrics.first_error import Scored, best_threshold, first_error_metrics
from openr_data.store import Dataset, Store
from openr_data.store.verify import verify
from tests.evaluation.rewards import Score, ScriptedReward
from tests.evaluation.test_labels import TRUTH, arithmetic, people, records, steps

SCORES = (
    (0.9, 0.8, 0.7),  # no error, none named
    (0.9, 0.2, 0.1),  # the second step, exactly
    (0.6, 0.3, 0.9),  # the first step, named too late
    (0.9, 0.8, 0.45),  # the third step, exactly at 0.5 and missed at 0.4
    (0.9, 0.45, 0.8),  # no error, one named at 0.5 and none at 0.4
)
"""Of the solutions of `TRUTH`: all good, second wrong, first wrong, third wrong, all good."""


def by_hand(question: str, _: Sequence[str]) -> Sequence[float]:
    return SCORES[int(question.removeprefix("Question ").removesuffix("?"))]


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset("d", create=True)


def evaluate(store: Store, *on: str, score: Score = by_hand, threshold: float = 0.5, **options: Any) -> Evaluated:
    reward = ScriptedReward(score, threshold=threshold)
    return EvaluatePrm(store, PrmEvaluationConfig("m", on, **options)).run(store, reward)


def judged(name: str, *truths: tuple[int | None, ...], source: str = "", generator: str = "") -> JudgedSet:
    return JudgedSet(
        name,
        tuple(
            JudgedSolution(f"{name}{i}", f"{name} {i}", tuple(f"s{n}" for n in range(len(truth))), truth, source, generator)
            for i, truth in enumerate(truths)
        ),
    )  # fmt: skip


def scored(each: JudgedSet, *scores: Sequence[float] | None) -> dict[str, Sequence[float]]:
    return {
        score_store.case_id(item.question, item.steps): found
        for item, found in zip(each.solutions, scores, strict=True)
        if found is not None
    }


def whole(
    each: JudgedSet, scores: dict[str, Sequence[float]], own: float = 0.5, dev: float | None = None
) -> PrmFigures:
    return next(iter(figures_of(each, scores, own, dev)))


# --- the figures


def test_every_figure_is_the_one_worked_out_by_hand(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    evaluated = evaluate(store, "d", threshold=0.4)
    (row,) = evaluated.evaluation.rows
    assert (row.name, row.by, row.solutions, row.failed, row.undecided) == ("d@1", "", 5, 0, 0)
    assert (row.at_half.erroneous_hit, row.at_half.erroneous) == (2, 3)
    assert (row.at_half.correct_hit, row.at_half.correct) == (1, 2)
    assert row.at_half.f1 == pytest.approx(4 / 7)
    assert (row.at_own.threshold, row.at_own.erroneous_hit, row.at_own.correct_hit) == (0.4, 1, 2)
    assert row.at_own.f1 == pytest.approx(0.5)
    assert row.at_dev is None
    # Steps behind the first true error have no truth: 3 + 2 + 1 + 3 + 3 are left, 3 of them bad.
    assert (row.steps.steps, row.steps.good_share) == (12, 9 / 12)
    # Wrong at 0.5: the bad first step of 0.6, and the good step of 0.45.
    assert row.steps.accuracy == pytest.approx(10 / 12)
    assert row.steps.balanced_accuracy == pytest.approx((8 / 9 + 2 / 3) / 2)
    good = [0.9, 0.8, 0.7, 0.9, 0.9, 0.8, 0.9, 0.45, 0.8]
    bad = [0.2, 0.6, 0.45]
    assert row.steps.auroc == pytest.approx(np.mean([(g > b) + (g == b) / 2 for g, b in product(good, bad)]))
    squares = [(1 - g) ** 2 for g in good] + [b**2 for b in bad]
    assert row.steps.brier == pytest.approx(np.mean(squares))
    assert row.steps.log_loss == pytest.approx(-np.mean(np.log(good + [1 - b for b in bad])))
    assert row.last_is_lowest == 3 / 5
    assert (evaluated.total, evaluated.failures, evaluated.sets["d@1"]["truth"]) == (5, [], {"human": 5})
    assert evaluated.evaluation.mean_row() is None


def test_the_curve_is_f1_at_each_of_its_thresholds_ends_and_middle_among_them(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    (row,) = evaluate(store, "d").evaluation.rows
    items = [Scored(scores, None if wrong < 0 else wrong) for scores, wrong in zip(SCORES, TRUTH, strict=True)]
    thresholds = row.curve["threshold"]
    assert {0.0, 0.5, 1.0} <= set(thresholds)
    assert list(thresholds) == sorted(set(thresholds))
    for threshold, f1, accuracy in zip(*(row.curve[n] for n in ("threshold", "f1", "accuracy_correct")), strict=True):
        assert threshold is not None
        at = first_error_metrics(items, threshold)
        assert (at.f1, at.accuracy_correct) == (f1, accuracy)
    assert max(f1 for f1 in row.curve["f1"] if f1 is not None) == first_error_metrics(items, best_threshold(items)).f1


def test_neutral_is_not_wrong_and_what_is_not_judged_has_no_truth() -> None:
    each = judged("a", (0, None, -1, 1), (1, 1))
    row = whole(each, scored(each, (0.9, 0.1, 0.2, 0.0), (0.9, 0.8)))
    assert (row.steps.steps, row.steps.good_share, row.steps.accuracy) == (4, 0.75, 1.0)
    # The step without truth is named: that is not the true one.
    assert (row.at_half.erroneous_hit, row.at_half.erroneous) == (0, 1)


def test_where_truth_is_undecided_steps_count_and_the_solution_does_not() -> None:
    each = judged("a", (1, None, 1), (1, -1), (1, 1))
    row = whole(each, scored(each, (0.3, 0.2, 0.1), (0.9, 0.1), (0.9, 0.8)))
    assert (row.undecided, row.at_half.erroneous, row.at_half.correct, row.at_half.f1) == (1, 1, 1, 1.0)
    assert (row.steps.steps, row.steps.accuracy) == (6, 4 / 6)
    assert row.last_is_lowest == 1.0


def test_what_has_no_scores_is_missed_and_has_no_steps() -> None:
    each = judged("a", (1, -1), (1, -1), (1, 1), (1, 1), (1, None))
    row = whole(each, scored(each, (0.9, 0.1), None, (0.9, 0.8), None, None), own=0.05, dev=0.5)
    assert (row.solutions, row.failed, row.steps.steps) == (5, 3, 4)
    for at in (row.at_half, row.at_dev):
        assert at is not None
        assert (at.erroneous_hit, at.erroneous, at.correct_hit, at.correct) == (1, 2, 1, 2)
        assert at.f1 == 0.5
    assert (row.at_own.accuracy_erroneous, row.at_own.accuracy_correct) == (0.0, 0.5)
    assert max(f1 for f1 in row.curve["f1"] if f1 is not None) == 0.5


def test_a_set_of_which_nothing_has_scores_is_figures_of_nothing() -> None:
    each = judged("a", (1, -1), (1, 1))
    row = whole(each, {})
    assert (row.failed, row.at_half.f1, row.steps.auroc, row.last_is_lowest) == (2, 0.0, None, None)


def test_sources_and_generators_have_rows_where_there_are_several() -> None:
    parts = [
        judged("a", (1, -1), source="gsm8k", generator="x"),
        judged("b", (1, 1), source="math", generator="x"),
        judged("c", (-1, 1), source="math", generator="y"),
    ]
    each = JudgedSet("all", tuple(item for part in parts for item in part.solutions))
    rows = list(figures_of(each, scored(each, (0.9, 0.1), (0.9, 0.8), (0.9, 0.8)), 0.5))
    assert [(row.by, row.group, row.solutions) for row in rows] == [
        ("", "", 3), ("source", "gsm8k", 1), ("source", "math", 2), ("generator", "x", 2), ("generator", "y", 1),
    ]  # fmt: skip
    assert [row.at_half.f1 for row in rows] == [pytest.approx(2 / 3), None, 0.0, 1.0, None]
    assert {row.name for row in rows} == {"all"}
    one = JudgedSet("one", tuple(replace(item, source="s", generator="g") for item in each.solutions))
    assert len(list(figures_of(one, {}, 0.5))) == 1


def test_the_headline_is_the_unweighted_mean_over_the_sets(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), -1, 1, -1, 0)
    found = evaluate(store, "d", "e", threshold=0.4, dev="", score=by_hand).evaluation
    first, second = (row.row() for row in found.sets)
    mean = found.mean_row()
    assert mean is not None
    assert (mean["set"], mean["f1"]) == ("mean", (first["f1"] + second["f1"]) / 2)
    assert mean["f1_own"] == (first["f1_own"] + second["f1_own"]) / 2
    assert first["f1"] != second["f1"]
    assert "f1_dev" not in mean
    people(store.dataset("f", create=True), 1)
    with_none = evaluate(store, "d", "f").evaluation.mean_row()
    assert with_none is not None
    assert with_none["f1"] is None


def test_everything_comes_back_from_json(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), -1, 1)
    evaluated = evaluate(store, "d", dev="e")
    assert Evaluated.read(json.loads(json.dumps(evaluated.as_dict()))) == evaluated
    assert PrmEvaluation.read(evaluated.as_dict()).dev == evaluated.evaluation.dev


# --- the threshold of a dev set


def test_the_threshold_of_the_dev_set_is_the_best_one_there_and_is_reported_on_the_others(
    store: Store, dataset: Dataset
) -> None:
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), -1, -1, -1, 2)
    found = evaluate(store, "d", dev="e").evaluation
    assert found.dev is not None
    # Question 3 has its error at the score 0.45, question 1 is called good: 0.1 is its lowest.
    items = [Scored(SCORES[i], None if i < 3 else 2) for i in range(4)]
    assert found.dev.threshold == best_threshold(items)
    assert (found.dev.name, found.dev.solutions, found.dev.failed, found.dev.in_common) == ("e@1", 4, 0, 4)
    (row,) = found.rows
    assert row.at_dev is not None
    own = [Scored(scores, None if wrong < 0 else wrong) for scores, wrong in zip(SCORES, TRUTH, strict=True)]
    assert row.at_dev == first_error_metrics(own, found.dev.threshold)


def test_what_has_no_scores_has_no_say_in_the_threshold() -> None:
    dev = judged("d", (1, -1), (1, 1), (1, 1))
    scores = scored(dev, (0.9, 0.6), (0.9, 0.8), None)
    found = choose_threshold(dev, [judged("a", (1, 1))], scores)
    assert (found.threshold, found.failed, found.in_common) == (pytest.approx(0.7), 1, 0)
    with pytest.raises(ValueError, match="1 solutions with an error and 0 without"):
        choose_threshold(dev, [], scored(dev, (0.9, 0.6), None, None))


def test_a_dev_set_that_is_reported_on_is_refused_under_any_name(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    dataset.tag("v1")
    for dev in ("d", "d@1", "d@v1"):
        with pytest.raises(UsageError, match="is one of the --on sets: a threshold that is chosen on the solutions"):
            EvaluatePrm(store, PrmEvaluationConfig("m", ("d@1",), dev=dev))
    with pytest.raises(UsageError, match=r"d@v1 holds what d@1 holds\. Name each set once"):
        EvaluatePrm(store, PrmEvaluationConfig("m", ("d", "d@v1")))


@pytest.mark.parametrize("wrong", [(-1, -1), (0, 1)])
def test_a_dev_set_of_one_kind_is_refused_before_anything_is_scored(
    store: Store, dataset: Dataset, wrong: tuple[int, ...]
) -> None:
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), *wrong)
    errors = sum(item >= 0 for item in wrong)
    with pytest.raises(UsageError, match=rf"{errors} of its solutions are known to have an error and {2 - errors} to"):
        EvaluatePrm(store, PrmEvaluationConfig("m", ("d",), dev="e")).read()


# --- scoring, resuming


def test_what_cannot_be_scored_is_listed_with_its_reason(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)

    def too_long(question: str, given: Sequence[str]) -> Sequence[float]:
        if question == "Question 1?":
            raise InputError("A solution of 9 tokens does not fit.")
        return by_hand(question, given)

    evaluated = evaluate(store, "d", score=too_long)
    assert [(item["set"], item["reason"]) for item in evaluated.failures] == [
        ("d@1", "A solution of 9 tokens does not fit.")
    ]
    assert evaluated.failures[0]["solution"] in dataset.view().arrow("solutions")["solution_id"].to_pylist()
    (row,) = evaluated.evaluation.rows
    assert (row.failed, row.at_half.erroneous_hit, row.at_half.erroneous, row.steps.steps) == (1, 1, 3, 10)
    job = Job.find(store, evaluated.job_id)
    assert job.state() == "done, some failed"
    assert job.last_event()["failed"] == 1


def test_a_model_that_scores_nothing_is_an_error_and_no_result(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)

    def nothing(question: str, given: Sequence[str]) -> Sequence[float]:
        raise InputError("It does not fit.")

    with pytest.raises(PolicyError, match="Not one of 5 solutions could be scored: It does not fit"):
        evaluate(store, "d", score=nothing)
    (job,) = Job.all(store)
    assert job.result() is None


def test_a_request_that_fails_is_no_miss_but_asked_again(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)

    def busy(question: str, given: Sequence[str]) -> Sequence[float]:
        if question == "Question 2?":
            raise PolicyError("The server is busy.")
        return by_hand(question, given)

    with pytest.raises(
        PolicyError, match=r"1 of 5 solutions were not scored, for example: The server is busy\. The same"
    ):
        evaluate(store, "d", score=busy)
    reward = ScriptedReward(by_hand)
    outcome = EvaluatePrm(store, PrmEvaluationConfig("m", ("d",))).run(store, reward)
    assert reward.asked == [("Question 2?", tuple(steps(2)))]
    assert outcome.evaluation.rows == evaluate(store, "d", score=by_hand).evaluation.rows
    assert outcome.evaluation.rows[0].at_half.f1 == pytest.approx(4 / 7)


def many(question: str, given: Sequence[str]) -> Sequence[float]:
    return [(len(question) * 7 + len(step) * 3 + place) % 11 / 10 for place, step in enumerate(given)]


@pytest.mark.parametrize("how", ["lost", "SIGINT", "SIGTERM"])
def test_what_was_scored_before_a_stop_is_not_scored_again(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(score_store, "AT_ONCE", 3)
    people(dataset, *(i % 4 - 1 for i in range(40)))

    def stop(number: int) -> None:
        if number == 25 and how == "lost":
            raise PolicyLost("The model is gone.")
        if number == 25:
            os.kill(os.getpid(), getattr(signal, how))

    stopped = ScriptedReward(many, before=stop)
    evaluation = EvaluatePrm(store, PrmEvaluationConfig("m", ("d",)))
    error, words = (PolicyLost, "gone") if how == "lost" else (Interrupted, r"of 40 solutions are scored\. The same")
    with pytest.raises(error, match=words):
        evaluation.run(store, stopped)
    (job,) = Job.all(store)
    kept = dataset.view().counts()["scores"] // 3
    assert 20 <= kept < 40
    assert (job.state(), job.last_event()["total"]) == ("stopped", 40)
    later = ScriptedReward(many)
    seen: list[tuple[int, int]] = []
    outcome = evaluation.run(store, later, report=lambda done, total: seen.append((done, total)))
    assert len(later.asked) == 40 - kept
    assert (seen[0], seen[-1]) == ((kept + 1, 40), (40, 40))
    assert outcome.spent["tokens_read"] == 4 * (len(stopped.asked) + len(later.asked))
    unbroken = EvaluatePrm(store, PrmEvaluationConfig("m", ("d",), limit=1_000)).run(store, ScriptedReward(many))
    assert unbroken.job_id != outcome.job_id
    assert unbroken.evaluation == outcome.evaluation


_KILLED = """
import os, signal, sys
from openr_data.evaluation import score_table, scores
from openr_data.evaluation.prm import EvaluatePrm, PrmEvaluationConfig
from openr_data.store import Store
from tests.evaluation.rewards import ScriptedReward
from tests.evaluation.test_prm import many
score_table.COMMIT_CASES, scores.AT_ONCE = 10, 2
def die(number):
    if number == 33:
        os.kill(os.getpid(), signal.SIGKILL)
store = Store.open(sys.argv[1])
EvaluatePrm(store, PrmEvaluationConfig("m", ("d",))).run(store, ScriptedReward(many, before=die))
"""


@pytest.mark.slow
def test_after_kill_9_nothing_that_was_acknowledged_is_scored_again(store: Store, dataset: Dataset) -> None:
    people(dataset, *(i % 4 - 1 for i in range(40)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(store.path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (job,) = Job.all(store)
    assert dataset.view().counts()["scores"] == 3 * 30
    pending = (job.path / "scores" / "pending-d.jsonl").read_bytes().splitlines()
    assert len(pending) in (2, 3)
    reward = ScriptedReward(many)
    outcome = EvaluatePrm(store, PrmEvaluationConfig("m", ("d",))).run(store, reward)
    assert len(reward.asked) == 40 - 30 - len(pending)
    assert dataset.view().counts()["scores"] == 3 * 40
    assert list(verify(dataset)) == []
    assert outcome.job_id == job.job_id
    assert outcome.evaluation == evaluate(store, "d", score=many).evaluation


def test_a_slow_model_is_kept_by_time_and_not_by_thousands(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_table, "COMMIT_SECONDS", -1.0)
    people(dataset, *TRUTH)
    evaluate(store, "d")
    assert len(dataset.view().files("scores")) == 5


def test_the_same_evaluation_again_scores_nothing_and_another_one_is_another_job(
    store: Store, dataset: Dataset
) -> None:
    people(dataset, *TRUTH)
    first = evaluate(store, "d")
    reward = ScriptedReward(by_hand)
    config = PrmEvaluationConfig("m", ("d",))
    assert EvaluatePrm(store, config).run(store, reward) == first
    assert reward.asked == []
    others = [
        EvaluatePrm(store, config).run(store, ScriptedReward(by_hand, name="scripted@2")),
        EvaluatePrm(store, config).run(store, ScriptedReward(by_hand, threshold=0.4)),
        evaluate(store, "d", truth="human"),
        evaluate(store, "d", limit=3),
    ]
    people(dataset, *TRUTH, 2)
    others.append(evaluate(store, "d", score=lambda *_: (0.1, 0.1, 0.1)))
    assert len({first.job_id, *(item.job_id for item in others)}) == 6
    assert others[-1].total == 6


def test_one_solution_in_two_sets_is_scored_once(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), -1, 1, -1)
    reward = ScriptedReward(by_hand)
    outcome = EvaluatePrm(store, PrmEvaluationConfig("m", ("d", "e"))).run(store, reward)
    assert (len(reward.asked), outcome.total) == (5, 5)
    assert [row.solutions for row in outcome.evaluation.sets] == [5, 3]


def test_the_result_is_found_without_the_model_while_its_files_are_the_same(
    store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    people(dataset, *TRUTH)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    config = PrmEvaluationConfig(str(folder), ("d",))
    assert EvaluatePrm(store, config).done() is None
    made = EvaluatePrm(store, config).run(store, ScriptedReward(by_hand))
    assert EvaluatePrm(store, config).done() == made
    assert EvaluatePrm(store, replace(config, limit=2)).done() is None
    assert EvaluatePrm(store, replace(config, truth="human")).done() is None
    (folder / "config.json").write_text('{"trained": "anew"}')
    assert EvaluatePrm(store, config).done() is None


def test_a_model_behind_a_server_or_not_yet_here_has_no_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert model_mark(PrmEvaluationConfig(str(tmp_path), ("d",)))
    assert model_mark(PrmEvaluationConfig(str(tmp_path), ("d",), backend="openai")) == ""
    assert model_mark(PrmEvaluationConfig("nobody/has-this-model", ("d",))) == ""
    with pytest.raises(InputError, match="No model folder"):
        model_mark(PrmEvaluationConfig("./nothing", ("d",)))


def test_a_hub_model_is_known_by_the_commit_that_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"name": tmp_path / "snapshots" / "c0ffee" / "config.json"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(found["name"]))
    config = PrmEvaluationConfig("a/b", ("d",))
    first = model_mark(config)
    assert first == model_mark(config) != ""
    found["name"] = tmp_path / "snapshots" / "d00d" / "config.json"
    assert model_mark(config) != first


# --- who knows the truth


def test_the_oracle_is_the_truth_where_there_is_one(store: Store, dataset: Dataset) -> None:
    arithmetic(dataset, (0, None), (1, 0), (2, 1))
    read = labelled_data(store, "d").read()
    assert (dict(read.truth), read.without_truth, read.unreadable) == ({"oracle": 3}, 0, 0)
    assert sorted(item.first_error for item in read.solutions if item.first_error is not None) == [0, 1]
    told = labelled_data(store, "d").read("m")
    assert (dict(told.truth), {item.first_error for item in told.solutions}) == ({"m": 3}, {None})
    assert read.solutions[0].source == "arithmetic"


def test_people_are_the_truth_where_there_is_no_oracle_and_others_are_counted(store: Store, dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    records(dataset, "m", *[{"label": [1, 1, 1]}] * 7)
    read = labelled_data(store, "d").read()
    assert (dict(read.truth), len(read.solutions), read.without_truth) == ({"human": 5}, 5, 2)
    assert [item.first_error for item in sorted(read.solutions, key=lambda item: item.question)] == [
        None,
        1,
        0,
        2,
        None,
    ]
    assert {item.generator for item in read.solutions} == {"g"}


def test_what_the_oracle_cannot_read_is_counted(store: Store, dataset: Dataset) -> None:
    arithmetic(dataset, (0, None), metadata=False)
    people(dataset, 1)
    read = labelled_data(store, "d").read()
    assert (dict(read.truth), read.unreadable, read.without_truth) == ({"human": 1}, 1, 1)


@pytest.mark.parametrize(
    ("truth", "error", "words"),
    [
        ("", UsageError, r"No truth is known about the solutions of d.*--truth METHOD \(there are: m\)"),
        ("oracle", UnknownName, r"No truth 'oracle' \(there are: m\)"),
        ("human", UnknownName, r"No truth 'human'"),
        ("n", UnknownName, r"No truth 'n' \(there are: m\)"),
    ],
)
def test_a_dataset_without_truth_says_how_to_name_one(
    store: Store, dataset: Dataset, truth: str, error: type[Exception], words: str
) -> None:
    records(dataset, "m", {"label": [1, -1, 1]})
    with pytest.raises(error, match=words):
        labelled_data(store, "d").read(truth)
    assert labelled_data(store, "d").read("m").solutions[0].truth == (1, -1, 1)


def test_a_dataset_without_labels_says_how_to_get_some(store: Store, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="d has no labels, so nothing is known of its steps. Label it with"):
        labelled_data(store, "d").read()


def test_a_limit_takes_the_same_solutions_each_time_in_the_order_of_their_questions(
    store: Store, dataset: Dataset
) -> None:
    people(dataset, *(i % 4 - 1 for i in range(40)))
    every = labelled_data(store, "d").read().solutions
    some = labelled_data(store, "d").read(limit=7).solutions
    assert [item for item in every if item in some] == list(some)
    assert sorted(item.solution_id for item in some) == sorted(item.solution_id for item in every)[:7]
    assert labelled_data(store, "d").read(limit=8).solutions != some
    assert labelled_data(store, "d").read(limit=100).solutions == every


# --- files


def rows_of(*first_wrong: int, generators: str = "g") -> list[dict[str, Any]]:
    return [
        {"id": f"t-{i}-{g}", "generator": g, "problem": f"Question {i}?", "steps": steps(i), "label": wrong,
         "final_answer_correct": wrong < 0}
        for i, wrong in enumerate(first_wrong) for g in generators
    ]  # fmt: skip


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_a_file_gives_the_figures_that_its_import_gives(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    people(dataset, *TRUTH)
    name = write(tmp_path / "bench.jsonl", rows_of(*TRUTH))
    assert labelled_data(store, name).format == "processbench"
    (of_file,), (of_store,) = (evaluate(store, what).evaluation.rows for what in (name, "d"))
    assert replace(of_file, name="") == replace(of_store, name="")
    assert evaluate(store, name, file_format="processbench").evaluation.rows == (of_file,)


def test_a_row_is_a_solution_though_two_models_wrote_the_same(tmp_path: Path) -> None:
    name = write(tmp_path / "bench.jsonl", rows_of(*TRUTH, generators="gh"))
    read = labelled_data(None, name).read()
    assert (len(read.solutions), dict(read.truth)) == (10, {"human": 10})
    assert len({item.solution_id for item in read.solutions}) == 5


def test_a_file_is_known_by_what_it_holds(store: Store, tmp_path: Path) -> None:
    one, other = (write(tmp_path / f"{name}.jsonl", rows_of(*TRUTH)) for name in "ab")
    assert labelled_data(store, one).digest == labelled_data(store, other).digest
    with pytest.raises(UsageError, match=r"b\.jsonl is one of the --on sets"):
        EvaluatePrm(store, PrmEvaluationConfig("m", (one,), dev=other))
    write(tmp_path / "b.jsonl", rows_of(*TRUTH, 0))
    assert labelled_data(store, one).digest != labelled_data(store, other).digest


def a_record(i: int, method: str, label: list[int | None], provenance: str = "measured") -> dict[str, Any]:
    return {
        "question": f"Question {i}?", "answer": "1", "steps": steps(i), "label": label, "method": method,
        "provenance": [provenance] * 3,
    }  # fmt: skip


def test_label_sets_of_one_solution_in_a_file_are_one_solution_by_whoever_knows(tmp_path: Path) -> None:
    rows = [
        a_record(0, "m", [-1, None, None]),
        a_record(0, "human", [1, 1, None], "human"),
        a_record(0, "human", [1, 1, -1], "human"),
        a_record(1, "m", [1, 1, 1]),
    ]
    name = write(tmp_path / "r.jsonl", rows)
    read = labelled_data(None, name).read()
    assert [item.truth for item in read.solutions] == [(1, 1, -1)]
    assert (dict(read.truth), read.without_truth) == ({"human": 1}, 1)
    by_method = labelled_data(None, name).read("m")
    assert [item.truth for item in by_method.solutions] == [(-1, None, None), (1, 1, 1)]


def test_a_file_of_the_arithmetic_world_is_judged_by_its_oracle(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    from openr_data.exchange.exporter import export_rows
    from openr_data.exchange.file_format import make_format
    from openr_data.exchange.formats.files import write_rows
    from openr_data.exchange.formats.format import Tally

    arithmetic(dataset, (0, None), (1, 0))
    path = tmp_path / "a.jsonl"
    write_rows(path, export_rows(dataset.view(), make_format("records", {}, "d", ""), Tally()))
    of_file, of_store = labelled_data(store, str(path)).read(), labelled_data(store, "d").read()
    assert dict(of_file.truth) == {"oracle": 2}
    assert sorted(of_file.solutions, key=repr) == sorted(of_store.solutions, key=repr)
    assert {item.first_error for item in labelled_data(store, str(path)).read("m").solutions} == {None}


@pytest.mark.parametrize(
    ("rows", "options", "error", "words"),
    [
        ([{"a": 1}], {}, InputError, "is in no known format"),
        ([], {}, InputError, "holds no rows"),
        ([{"problem": "1+1?", "answer": "2"}], {}, UsageError, "read as questions, has no labels"),
        ([a_record(0, "m", [None, None, None])], {}, UsageError, "read as records, has no labels"),
        ([a_record(0, "m", [1, 1, -1])], {}, UsageError, r"No truth is known.*--truth METHOD \(there are: m\)"),
        ([a_record(0, "m", [1, 1, -1])], {"truth": "n"}, UnknownName, r"No truth 'n' \(there are: m\)"),
        ([a_record(0, "m", [1, 1, -1])], {"truth": "oracle"}, UnknownName, r"No truth 'oracle' \(there are: m\)"),
        (rows_of(1), {"file_format": "trl"}, InputError, "No row of .* could be read as trl"),
        (rows_of(1), {"file_format": "tlr"}, UnknownName, "No format 'tlr'"),
    ],
)
def test_a_file_that_tells_nothing_says_why(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, str], error: type[Exception], words: str
) -> None:
    name = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(error, match=words):
        EvaluatePrm(None, PrmEvaluationConfig("m", (name,), **options)).read()  # type: ignore[arg-type]


def test_what_is_neither_a_dataset_nor_a_file_is_told_with_the_datasets_there_are(
    store: Store, dataset: Dataset
) -> None:
    with pytest.raises(UnknownName, match=r"No labelled dataset or file 'e' \(there are: d\)"):
        labelled_data(store, "e")
    with pytest.raises(UnknownName, match=r"No labelled dataset or file 'e' \(there are: none\)"):
        labelled_data(None, "e")


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    rows = [*rows_of(*TRUTH), {**rows_of(1)[0], "label": 9}]
    read = labelled_data(None, write(tmp_path / "x.jsonl", rows)).read()
    assert (len(read.solutions), dict(read.dropped)) == (5, {"`label` is neither the index of a step nor -1": 1})


# --- real data, a real model


def test_processbench_is_scored_by_its_own_protocol(store: Store, shared_data: Path) -> None:
    """A stub that errs in known ways; F1 from the file by ProcessBench's own few lines."""
    path = shared_data / "processbench" / "gsm8k.json"
    rows = json.loads(path.read_text())
    labels = {(row["problem"].strip(), tuple(row["steps"])): row["label"] for row in rows}

    def predict(row_label: int, n: int, problem: str) -> int:
        """Right for two of three; else the step before, or a false alarm at the last one."""
        if len(problem) % 3:
            return row_label
        return row_label - 1 if row_label > 0 else n - 1

    def score(question: str, given: Sequence[str]) -> Sequence[float]:
        wrong = predict(labels[question, tuple(given)], len(given), question)
        return [0.1 if place == wrong else 0.9 for place in range(len(given))]

    evaluated = evaluate(store, str(path), score=score)
    rows_by = {(row.by, row.group): row for row in evaluated.evaluation.rows}
    for by, group in [("", ""), *(("generator", name) for name in {row["generator"] for row in rows})]:
        chosen = [row for row in rows if not by or row["generator"] == group]
        hits = [
            (row["label"], predict(row["label"], len(row["steps"]), row["problem"].strip()) == row["label"])
            for row in chosen
        ]
        on_errors = np.mean([hit for label, hit in hits if label != -1])
        on_correct = np.mean([hit for label, hit in hits if label == -1])
        at = rows_by[by, group].at_half
        assert (at.accuracy_erroneous, at.accuracy_correct) == (pytest.approx(on_errors), pytest.approx(on_correct))
        assert at.f1 == pytest.approx(2 * on_errors * on_correct / (on_errors + on_correct))
    assert (rows_by["", ""].at_half.erroneous, rows_by["", ""].at_half.correct) == (207, 193)
    assert evaluated.total == 400
    assert sum(row.solutions for row in evaluated.evaluation.rows if row.by == "generator") == 400


@pytest.mark.slow
def test_a_real_model_is_evaluated_on_what_it_says_itself(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    import asyncio
    from contextlib import closing

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from openr_data.models import model_entry
    from openr_data.prm_format import CONFIG_KEY, prm_format

    base, folder = model_entry("arithmetic").path, tmp_path / "prm"
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    model.config.__dict__[CONFIG_KEY] = {**prm_format("openr-data").as_dict(), "threshold": 0.25}
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    arithmetic(dataset, *((number, number % 3 - 1 if number % 3 else None) for number in range(8)))
    evaluation = EvaluatePrm(store, PrmEvaluationConfig(str(folder), ("d",)))
    with closing(evaluation.reward(device="cpu")) as reward:
        outcome = evaluation.run(store, reward)

        async def alone() -> list[Scored]:
            sets = evaluation.read()
            return [
                Scored(tuple(await reward.score(item.question, item.steps)), item.first_error)
                for item in sets[0].solutions
            ]

        items = asyncio.run(alone())
        assert outcome.evaluation.revision == reward.name
    (row,) = outcome.evaluation.rows
    assert (outcome.evaluation.threshold, row.at_own.threshold) == (0.25, 0.25)
    assert row.at_half == first_error_metrics(items)
    assert (row.at_half.erroneous, row.at_half.correct) == (5, 3)
    assert row.steps.steps == sum(
        len(item.scores) if item.first_error is None else item.first_error + 1 for item in items
    )
    assert outcome.spent["tokens_asked"] >= outcome.spent["tokens_read"] > 0
    assert EvaluatePrm(store, PrmEvaluationConfig(str(folder), ("d",))).done() == outcome
