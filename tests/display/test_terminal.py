"""Checks steps as lines: no information is in colour only."""

from typing import Any

from openr_data.display.terminal import duration, explained_lines, record_lines, spent, status_lines
from openr_data.reasons import ReasonedStep
from openr_data.types import Provenance

RECORD: dict[str, Any] = {
    "solution_id": "abcdef0123456789", "question_id": "q", "question": "How many [bold]?", "answer": "18",
    "final_answer": "17", "outcome": False, "source": "s", "split": "test", "level": "3", "method": "omegaprm",
    "completer": "p", "steps": ["one", "two\nlines", "three", "four", "five"], "label": [1, 1, 0, -1, None],
    "value": [1.0, None, 0.5, 0.0, None], "n_correct": [8, 0, 4, 0, 0], "n_rollouts": [8, 0, 8, 8, 0],
    "provenance": [Provenance.MEASURED, Provenance.CERTIFIED, Provenance.MEASURED, Provenance.MEASURED,
                   Provenance.INFERRED], "first_error": 3,
}  # fmt: skip


def test_each_step_shows_its_shape_value_counts_and_the_first_error() -> None:
    lines = [line.plain for line in record_lines(RECORD)]
    assert lines[0] == "abcdef0123  s · test · level 3 · omegaprm · p"
    assert lines[1] == "How many [bold]?"
    assert lines[2] == "gold 18 · this solution 17 (wrong)"
    assert lines[3:] == [
        " ▌● 1.00 (8/8)      one",
        " ▌● certified       two",
        " ▌                  lines",
        " ▌◐ 0.50 (4/8)      three",
        " ▌○ 0.00 (0/8)      four   ← first error",
        " ▌·                 five",
    ]


def test_the_reason_of_a_label_stands_below_its_step() -> None:
    reasons = '{"reasons": [null, "Both are\\ntrue.", null, "It is five.", null]}'
    lines = [line.plain for line in record_lines({**RECORD, "label_metadata": reasons})]
    assert lines[4:9] == [
        " ▌● certified       two",
        " ▌                  lines",
        " ▌                  Both are",
        " ▌                  true.",
        " ▌◐ 0.50 (4/8)      three",
    ]
    assert lines[10] == " ▌                  It is five."
    # What is damaged is for others to tell.
    damaged = [line.plain for line in record_lines({**RECORD, "label_metadata": '{"reasons": ["a"]}'})]
    assert damaged == [line.plain for line in record_lines(RECORD)]


def test_what_a_model_says_stands_beside_the_label_with_its_reason_below() -> None:
    good = [ReasonedStep(0.987, True, "One is one."), ReasonedStep(0.9, True, "")]
    said = [*good, ReasonedStep(0.2, False, "No."), ReasonedStep(0.04, False, "It is\nfive."), good[1]]
    lines = [line.plain for line in explained_lines(RECORD, said)]
    assert lines == [
        "abcdef0123  omegaprm",
        "How many [bold]?",
        " ▌● 0.99 | ●        one",
        " ▌                  One is one.",
        " ▌● 0.90 | ●        two",
        " ▌                  lines",
        " ▌○ 0.20 | ◐        three",
        " ▌                  No.",
        " ▌○ 0.04 | ○        four   ← first error",
        " ▌                  It is",
        " ▌                  five.",
        " ▌● 0.90 | ·        five",
    ]


def test_the_status_says_everything_on_four_lines() -> None:
    status = {"done": 3, "failed": 1, "total": 8, "labelled": 2, "located": 4, "eta_seconds": 12.0,
              "calls_per_located": 10.25, "tokens_per_second": 1000.0, "tokens_per_second_now": 1500.0,
              "in_flight": 64, "journal_hits": 2}  # fmt: skip
    assert status_lines(status, "omegaprm → d") == [
        "omegaprm → d  50%  4/8 questions  eta 12 s",
        "  now 1,500 tok/s · mean 1,000 tok/s · in flight 64 · journal hits 2 · retries 0",
        "  labelled 2 · screened out 1 · failed 1 · first errors 4 · 10.2 calls per first error",
        "  paid 0 prompt tokens · 0 completion tokens · price unknown",
    ]


def test_what_was_paid_is_tokens_hours_and_money_with_its_limit() -> None:
    status = {"prompt_tokens": 1_200, "cached_tokens": 900, "completion_tokens": 3_400, "reused": 16,
              "gpu_hours": 1.5, "cost": 12.9, "currency": "USD", "max_cost": 40.0}  # fmt: skip
    assert spent(status) == (
        "1,200 prompt tokens (900 cached) · 3,400 completion tokens · 16 rollouts reused · 1.50 GPU-hours · "
        "12.90 USD of at most 40.00 USD"
    )
    scored = {"reward_calls": 3, "reward_tokens": 2_000, "reward_tokens_read": 500, "reused": 16}
    assert "· 16 rollouts reused · 2,000 reward tokens (500 read) · price unknown" in spent(scored)
    assert spent({"cost": 0.00123, "currency": "USD"}).endswith("· 0.00123 USD")


def test_time_spans_are_for_people() -> None:
    assert [duration(seconds) for seconds in (0.4, 59, 61, 3_599.7, 11_520)] == [
        "0 s", "59 s", "1 min 1 s", "1 h 0 min", "3 h 12 min",
    ]  # fmt: skip
