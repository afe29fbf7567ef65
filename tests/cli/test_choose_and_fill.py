"""Tests what an export leaves out on request, and gold answers that an import takes from another dataset."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import Run
from tests.cli.test_exchange import written

CASE = {
    "id": "x",
    "generator": "g",
    "problem": "1 + 1?",
    "steps": ["a", "b"],
    "final_answer_correct": False,
    "label": 1,
}


def a_record(name: str, label: list[int], **more: Any) -> dict[str, Any]:
    return {"question": "1+1?", "answer": "2", "steps": [name, "end"], "label": label, "method": "m", **more}


@pytest.fixture
def uneven(run: Run) -> str:
    """Two negatives and six positives of one question, and one of the positives by a second method."""
    rows = [a_record(f"bad {i}", [1, -1]) for i in range(2)] + [a_record(f"good {i}", [1, 1]) for i in range(6)]
    run("import", "d", written("r.jsonl", *rows, a_record("good 0", [1, 1], method="second")))
    return "d"


def labels(out: str) -> list[bool]:
    return sorted(-1 in json.loads(line)["label"] for line in out.splitlines())


# --- export


@pytest.mark.parametrize("ratio", ["1:1", "1", "2:2"])
def test_a_balance_leaves_as_many_of_each_side_and_tells_it(run: Run, uneven: str, ratio: str) -> None:
    answer = run("export", uneven, "--balance", ratio)
    assert answer.code == 0
    assert labels(answer.out) == [False, False, True, True]
    assert answer.err == "4 rows of d as records.\n  lost 5: records without a first error, for the balance\n"


def test_the_same_command_gives_the_same_file_and_another_seed_another(run: Run, uneven: str) -> None:
    command = ("--balance", "1:2", "--per-question", "4", "--as", "trl")
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1"), ("d", "2"), ("e", "3")):
        assert run("export", uneven, f"{name}.jsonl", *command, "--seed", seed).code == 0
    texts = {name: Path(f"{name}.jsonl").read_text() for name in "abcde"}
    assert texts["a"] == texts["b"]
    assert len(set(texts.values())) > 1


def test_every_option_says_what_it_left_out(run: Run, uneven: str) -> None:
    answer = run("export", uneven, "--dedupe", "--per-question", "6", "--balance", "1:1")
    assert labels(answer.out) == [False, False, True, True]
    assert answer.err.splitlines()[1:] == [
        "  lost 2: records beyond 6 a question",
        "  lost 2: records without a first error, for the balance",
        "  lost 1: records that repeat another one (same question, steps and labels)",
    ]
    assert len(run("export", uneven, "--dedupe").out.splitlines()) == 8
    assert len(run("export", uneven, "--per-question", "1").out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--balance", "1:0"], "'1:0' is not a ratio of negatives to positives, for example 1:1, 1:3 or 0.5."),
        (["--balance", "1:1", "--where", "first_error is null"], "but there are 0 and 7. Take other records"),
        (["--balance", "1:1", "--as", "questions"], "This format writes questions"),
        (["--per-question", "2", "--as", "math-aps-tree"], "This format writes the whole tree of a question"),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_sentence_and_leaves_no_file(
    run: Run, uneven: str, arguments: list[str], words: str
) -> None:
    answer = run("export", uneven, "x.jsonl", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not Path("x.jsonl").exists()


def test_less_than_one_record_of_a_question_is_refused(run: Run, uneven: str) -> None:
    assert run("export", uneven, "--per-question", "0").code == 2


# --- import


def test_gold_answers_are_filled_in_and_told(run: Run) -> None:
    known = [
        {"problem": "1  +  1?", "answer": "2"},
        {"problem": "2?", "answer": "2"},
        {"problem": " 2?", "answer": "two"},
    ]
    run("import", "known", written("k.jsonl", *known))
    cases = [CASE, {**CASE, "id": "y", "problem": "2?"}, {**CASE, "id": "z", "problem": "3?"}]
    answer = run("import", "bench", written("b.jsonl", *cases), "--gold-from", "known")
    assert (answer.code, answer.out) == (0, "bench@1\n")
    told = (
        "  gold answers from known: 1 questions filled; "
        "none for 1 whose text is not in known and 1 with several answers in known\n"
    )
    assert told in answer.err
    rows = json.loads(run("sql", "bench", "select question, answer from questions order by 1", "--json").out)
    assert [row["answer"] for row in rows] == ["2", "", ""]
    back = run("export", "bench", "--as", "processbench")
    assert sorted(back.out.splitlines()) == sorted(map(json.dumps, cases))


def test_questions_that_were_filled_can_be_labelled(run: Run) -> None:
    run("import", "known", written("k.jsonl", {"problem": "1?", "answer": "1"}))
    file = written("q.jsonl", {"problem": "1?", "answer": ""})
    assert "1 have no gold answer and cannot be labelled" in run("import", "without", file).err
    answer = run("import", "filled", file, "--gold-from", "known@1")
    assert "  gold answers from known@1: 1 questions filled\n" in answer.err
    assert "no gold answer" not in answer.err


def test_a_dry_run_says_what_would_be_filled_and_writes_nothing(run: Run) -> None:
    run("import", "known", written("k.jsonl", {"problem": "1 + 1?", "answer": "2"}))
    answer = run("import", "bench", written("b.jsonl", CASE), "--gold-from", "known", "--dry-run")
    assert (answer.code, answer.out) == (0, "")
    assert "  gold answers from known: 1 questions filled\n" in answer.err
    strict = run("import", "bench", "b.jsonl", "--gold-from", "known", "--dry-run", "--strict")
    assert "  gold answers from known: 1 questions filled\n" in strict.err
    assert [row["name"] for row in json.loads(run("ls", "--json").out)] == ["known"]
    # Looked at first and then written: each question counts once.
    strict = run("import", "bench", "b.jsonl", "--gold-from", "known", "--strict")
    assert "  gold answers from known: 1 questions filled\n" in strict.err


@pytest.mark.parametrize(
    ("other", "words"),
    [("absent", "No dataset 'absent'"), ("known@v9", 'No snapshot "v9" in known'), ("a!", "is not a dataset name")],
)
def test_gold_answers_from_nowhere_are_told_before_anything_is_written(run: Run, other: str, words: str) -> None:
    run("import", "known", written("k.jsonl", {"problem": "1 + 1?", "answer": "2"}))
    answer = run("import", "bench", written("b.jsonl", CASE), "--gold-from", other)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert [row["name"] for row in json.loads(run("ls", "--json").out)] == ["known"]


def test_pairs_of_steps_come_out_as_a_preference_trainer_reads_them(run: Run, labelled: str) -> None:
    for view in ("sibling_pairs", "outcome_pairs"):
        answer = run("sql", "d", f"select prompt, chosen, rejected from {view}", "--jsonl")
        assert answer.code == 0
        rows = [json.loads(line) for line in answer.out.splitlines()]
        assert rows
        assert all(row.keys() == {"prompt", "chosen", "rejected"} for row in rows)
