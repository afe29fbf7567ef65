"""Two printings of one question are equal, two questions never; what benchmarks hold is known without their text."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fingerprints import listing, questions
from openr_data.errors import UsageError
from openr_data.ids import content_hash
from openr_data.overlap import (
    Overlap,
    benchmarks,
    count_benchmarks,
    find_benchmarks,
    fingerprint,
    ngram_overlap,
    normalised,
    shared_questions,
    thirteen_grams,
)

FILES = {
    "math-500": "math/test500.jsonl",
    "gsm8k-test": "gsm8k/test.jsonl",
    "processbench-gsm8k": "processbench/gsm8k.json",
    "processbench-math": "processbench/math.json",
}
PIECES = st.sampled_from(
    [*"aBxy012 9{}()[]^_+-*/=<>!,.;:?'\"`~$%&|\\\n", "\\frac", "\\left", "\\right.", "\\,", "\\!", "\\\\", "{,}", "``",
     "\\hspace{em}", "\\Delta", "1,000", ".5", "3.14", "word", "ABC", "½", "¾", "x²", "⁻¹³", "₂", "①", "⑴", "㎡", "ﬁ", "−", "≤",
     "·", "—", "…", "ß", "İ", "é", "e\u0301", "\u200b", "\u200d", "\ud800", "Ⅻ", "５", "𝟏", "ℝ", "∑", "☺"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.characters(), max_size=25).map("".join)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is $x^2$?", "what  is\n\\( x ^ {2} \\)"),
        ("Find $a,$ $b,$ and $c.$", "Find $a$, $b$, and $c$."),
        ("Compute $\\dfrac{1}{2}$", "Compute \\[\\frac12\\]"),
        ("Compute $\\tfrac{1}{2}x$", "Compute $$\\frac{1}2 x$$."),
        ("Let $f\\left(\\frac{x}{10}\\right) \\leq 3.$", "Let $f(\\frac{x}{10})\\le3$."),
        ("$\\left.x\\right|_{x=1}$", "$x|_{x=1}$"),
        ("$\\left\\{1\\right\\}$", "$\\lbrace 1\\rbrace$"),
        ("$x\\,dx\\; + \\quad y\\ z \\hspace{1cm}w$", "$x dx+y z w$"),
        ("$1,\\!000$ and $2{,}500$ dollars", "1,000 and 2,500 dollars"),
        ("$\\displaystyle\\sum_{k = 1}^{n} k$", "$\\sum_{k=1}^n k$"),
        ("Jim’s “best” day — over", "jim's \"best\" day, over"),
        ("Is ``B'' 50\\% of it?", 'Is "B" 50% of it?'),
        ("the set $x ~ y$", "the set $x y$"),
        ("x² − 3 ≤ 2 × 5 · y", "$x^2 - 3 \\le 2 \\times 5 \\cdot y$"),
        ("x⁻¹ and x₁₂", "$x^{-1}$ and $x_{12}$"),
        ("½ cup", "1/2 cup"),
        ("1¾ cups", "1 3/4 cups"),
        ("A 10 m² ﬁeld", "a 10 m^2 field"),
        ("10 ㎡ of grass", "10 m^2 of grass"),
        ("\"$x$ is 5\"", "x is 5"),
        ("５ apples", "5 apples"),
        ("e\u0301tude\u200b nine", "\u00e9tude nine"),
    ],
)  # fmt: skip
def test_two_printings_of_a_question_are_one(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert fingerprint(one) == fingerprint(other)


APART = [
    ["x^2", "x2", "x_2", "x^3", "2x", "x^{22}", "x^{2}2", "x^{-2}"],
    ["x²", "x2", "x₂", "x³"],
    ["12", "1 2", "1.2", "1,2", "1/2", "1-2", "1+2", "1:2", "21", "-12", "1①", "1\u2063 2"],
    ["100200", "100,200", "100, 200", "100;200", "100.200", "100,2000", "100,200 0"],
    ["13/4", "1¾", "1 3 4", "1/34"],
    ["\\frac{1}{23}", "\\frac{12}{3}", "\\frac{1}{2}3", "\\frac 1 {23} 4"],
    ["a<b", "a>b", "a\\le b", "a\\ge b", "a=b", "a\\ne b", "ab", "a-b", "a+b", "a*b", "a/b", "a|b"],
    ["5!", "5", "5!!", "!5"],
    ["f'(x)", "f(x)", "f''(x)", "f(x')"],
    ["(1,2)", "[1,2]", "(1,2]", "\\{1,2\\}", "(1 2)", "(12)"],
    ["$\\Delta x$", "$\\delta x$"],
    ["\\leftarrow", "\\rightarrow", "\\Leftarrow", "arrow"],
    ["\\sin x", "\\cos x", "\\arcsin x", "\\sin^{-1} x"],
    ["$AB:BC$", "$AB-BC$", "$AB\\cdot BC$", "$AB,BC$", "$AB BC$"],
    ["Are A ~ B", "Are A B"],
    ["a \\\\ b", "a b"],
    ["50%", "50"],
    ["3 and 4", "3 or 4"],
]


@pytest.mark.parametrize("texts", APART, ids=lambda texts: texts[0])
def test_different_numbers_operators_and_structures_stay_apart(texts: list[str]) -> None:
    assert len({normalised(f"Find {text} now") for text in texts}) == len(texts)


@given(TEXTS)
def test_a_normalised_text_is_its_own_normal_form(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(TEXTS)
def test_outer_space_and_dollars_never_matter(text: str) -> None:
    assert normalised(f" \n${text}$\t") == normalised(f"${text} $")


@given(TEXTS)
def test_every_ascii_digit_is_kept_in_order(text: str) -> None:
    if text.isascii():
        assert re.sub("[^0-9]", "", normalised(text)) == re.sub("[^0-9]", "", text)


@given(
    st.lists(st.sampled_from("1 2 33 4.5 x y ( ) + - * / = < > ! | ^ _ : '".split()), min_size=1, max_size=12),
    st.data(),
)
def test_another_number_or_operator_is_another_question(tokens: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    other = data.draw(st.sampled_from([item for item in "7 x + - * / =".split() if item != tokens[place]]))
    changed = [*tokens[:place], other, *tokens[place + 1 :]]
    assert normalised("Compute " + " ".join(tokens)) != normalised("Compute " + " ".join(changed))


def test_a_fingerprint_is_the_beginning_of_a_content_hash_and_does_not_change_between_releases() -> None:
    assert fingerprint("What is $1+1$?") == content_hash("normalised question", "what is 1 + 1")[:16]
    assert fingerprint("What is $1+1$?") == "5855f5712f66bbb3"


def test_the_lists_are_sorted_fingerprints_below_their_origin() -> None:
    assert set(benchmarks()) == set(FILES)
    for name in FILES:
        path = Path(__file__).parents[1] / "catalogs" / "benchmarks" / f"{name}.txt"
        lines = path.read_text().split("\n")
        head = [line for line in lines if line.startswith("#")]
        rows = lines[len(head) : -1]
        assert lines[-1] == ""
        assert rows == sorted(set(rows))
        assert all(re.fullmatch("[0-9a-f]{16}", row) for row in rows)
        assert "licence" in head[0]
        assert head[1].startswith(f"# {len(rows)} ")
        assert benchmarks()[name] == set(rows)


def test_the_benchmarks_are_read_once_and_cannot_be_changed() -> None:
    assert benchmarks() is benchmarks()
    with pytest.raises(TypeError):
        benchmarks()["mine"] = frozenset()  # type: ignore[index]


@pytest.mark.parametrize("name", FILES)
def test_the_shipped_lists_are_what_the_script_makes_of_the_real_files(name: str, shared_data: Path) -> None:
    made = listing([shared_data / FILES[name]], "somewhere", "some")
    shipped = (Path(__file__).parents[1] / "catalogs" / "benchmarks" / f"{name}.txt").read_text()
    assert made.split("\n")[1:] == shipped.split("\n")[1:]


@pytest.mark.parametrize("name", FILES)
def test_a_question_of_a_benchmark_is_found_however_it_is_printed(name: str, shared_data: Path) -> None:
    texts = list(questions(shared_data / FILES[name]))[:50]
    printed = [f"\n{text.strip().replace('frac{', 'dfrac{')}  " for text in texts]
    pairs = [(str(place), text) for place, text in enumerate(printed)]
    assert find_benchmarks([*pairs, ("new", "What is 1+1?")])[name] == [place for place, _ in pairs]


def test_no_question_of_the_training_files_is_in_the_test_files_they_belong_to(shared_data: Path) -> None:
    math, gsm8k = (list(questions(shared_data / name / "train.jsonl")) for name in ("math", "gsm8k"))
    assert count_benchmarks(gsm8k) == Overlap(7473, {})
    # It differs from the training one by a line break at its end alone.
    assert count_benchmarks(math) == Overlap(7500, {"processbench-math": 1})


def test_processbench_is_made_of_the_other_test_files() -> None:
    known = benchmarks()
    assert known["processbench-gsm8k"] <= known["gsm8k-test"]
    assert len(known["processbench-math"] & known["math-500"]) == 108
    assert not known["processbench-math"] & known["gsm8k-test"]


def test_a_question_that_stands_in_two_benchmarks_is_named_in_both(shared_data: Path) -> None:
    text = next(questions(shared_data / FILES["processbench-gsm8k"]))
    assert find_benchmarks([("q", text)]) == {"gsm8k-test": ["q"], "processbench-gsm8k": ["q"]}
    assert count_benchmarks([text, "Mine"]) == Overlap(2, {"gsm8k-test": 1, "processbench-gsm8k": 1})


def test_no_questions_stand_in_no_benchmark() -> None:
    assert find_benchmarks([]) == {}
    assert count_benchmarks([]) == Overlap(0, {})


def test_normalised_merges_no_two_real_questions_but_four_reprints(shared_data: Path) -> None:
    for name, merged in (("math/train.jsonl", 4), ("math/test500.jsonl", 0), ("gsm8k/train.jsonl", 0)):
        texts = set(questions(shared_data / name))
        assert len(texts) - len({normalised(text) for text in texts}) == merged


def test_shared_questions_counts_different_ones_once_and_empty_ones_never() -> None:
    train = ["What is $1+1$?", "what is 1+1", "What is 2?", " ", "?"]
    assert shared_questions(train, ["WHAT IS 1 + 1", "What is 1 + 1?", "What is 3?", "", "$$"]) == 1
    assert shared_questions([], train) == 0


WORDS = [f"w{chr(97 + place)}" for place in range(26)]


def test_a_window_of_thirteen_shared_tokens_is_found_and_one_of_twelve_is_not() -> None:
    for shared, expected in ((12, []), (13, [1])):
        train = " ".join(["before", *WORDS[:shared], "after"])
        held = " ".join(["other", "start", *WORDS[:shared], "end"])
        assert ngram_overlap([train], ["nothing of the kind", held]) == expected


def test_the_size_of_the_window_can_be_chosen() -> None:
    assert ngram_overlap(["a b c d"], ["x b c y", "b x c"], n=2) == [0]
    assert ngram_overlap(["a b c d"], ["x b c y", "b x c"], n=1) == [0, 1]
    with pytest.raises(UsageError, match="one token or more, not 0"):
        ngram_overlap(["a"], ["a"], n=0)


def test_shorter_texts_are_compared_whole() -> None:
    held = ["What is 2+3?", "What is 2+4?", "is 2+3", " ?", ""]
    assert ngram_overlap(["$What$ is $2 + 3$.", "", "Tell me: what is 2+3, please?"], held) == [0]


def test_case_and_layout_do_not_hide_a_shared_window() -> None:
    text = "Let $x$ be a number with $\\frac{x}{2} = 7$ and $y$ one with $y = 3$. What is $x + y$?"
    assert ngram_overlap([text.upper().replace("\\FRAC", "\\dfrac")], [text.replace(" ", "  ") + " Say why."]) == [0]


def test_a_text_has_as_many_windows_as_places_for_thirteen_tokens() -> None:
    assert list(thirteen_grams("")) == []
    assert list(thirteen_grams("One, two!")) == [("one", "two")]
    assert len(list(thirteen_grams(" ".join(WORDS[:13])))) == 1
    windows = list(thirteen_grams(" + ".join(WORDS)))
    assert windows == [tuple(WORDS[place : place + 13]) for place in range(14)]


SMALL = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=6)


@given(SMALL, SMALL, st.integers(1, 4))
def test_the_overlap_is_what_comparing_all_pairs_finds(train: list[str], held_out: list[str], n: int) -> None:
    def windows(text: str) -> set[tuple[str, ...]]:
        tokens = text.split()
        return {tuple(tokens[at : at + n]) for at in range(max(1, len(tokens) - n + 1))} - {()}

    expected = [at for at, text in enumerate(held_out) if any(windows(text) & windows(other) for other in train)]
    assert ngram_overlap(iter(train), iter(held_out), n) == expected


def test_real_near_copies_are_found_beyond_the_exact_ones(shared_data: Path) -> None:
    train, held = (list(questions(shared_data / "gsm8k" / f"{part}.jsonl")) for part in ("train", "test"))
    overlap = ngram_overlap(train, held)
    assert len(overlap) == 3
    assert any("stamps at the post office" in held[place] for place in overlap)
    assert ngram_overlap(held[:40], held[20:60]) == list(range(20))


def test_a_list_is_made_of_json_lines_and_of_an_array_alike(tmp_path: Path) -> None:
    rows = [{"problem": "What is $1$?"}, {"question": "What is 2?"}, {"problem": "what is 1"}]
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "a.json").write_text(json.dumps(rows, indent=1))
    lines = listing([folder / "a.jsonl"], "My questions", "MIT").split("\n")
    assert lines[0] == "# Questions of My questions, licence MIT: fingerprints only."
    assert lines[1] == "# 2 different ones of 3 rows."
    assert "mine/a.jsonl" in lines[2]
    assert lines[3:] == [*sorted({fingerprint("What is 1"), fingerprint("What is 2")}), ""]
    assert listing([folder / "a.json"], "My questions", "MIT").split("\n")[3:] == lines[3:]
