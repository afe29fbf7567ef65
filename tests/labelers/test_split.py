"""Tests where texts are split, that no text is lost, and how a policy of pieces calls its underlying policy."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.labelers.split import LEVELS, Level, SplitPolicy, piece_size, pieces_of, split_text
from openr_data.types import Completion, Prefix, Sampling
from tests.growth import is_linear

FRAGMENTS = ["a", "B", "12", "3.5", ".", "! ", "? ", " ", "\n", "\n\n", "\t", "\r\n", "$", "\\(", "\\)", "\\[", "\\]"]
FRAGMENTS += ["\\begin{align}", "\\end{align}", "e.g. ", "\\boxed{", "}", "{", "The answer is", "#### ", "é", "。", "_"]
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
levels = st.sampled_from(LEVELS)


@given(texts, levels)
@example("", "token")
@example(" \n ", "line")
@example("\n\na", "sentence")
@example("a \ud800", "token")
def test_pieces_are_the_text_and_none_is_blank(text: str, level: Level) -> None:
    pieces = split_text(text, level)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(map(str.strip, pieces)) or (not text.strip() and pieces == (text,))


@given(texts, levels, st.floats(0, 100))
def test_joined_pieces_are_the_text_and_no_longer_than_they_may_be(text: str, level: Level, size: float) -> None:
    pieces, units = pieces_of(text, level, size), split_text(text, level)
    assert "".join(pieces) == text
    assert all(len(piece) <= size or piece in units for piece in pieces)
    # As few as fit: no piece could have taken the first unit of the next one.
    ends = {sum(map(len, units[: i + 1])): unit for i, unit in enumerate((*units[1:], ""))}
    place = 0
    for piece in pieces[:-1]:
        place += len(piece)
        assert len(piece) + len(ends[place]) > size


@given(texts, levels)
def test_white_space_stands_before_a_word_and_line_ends_behind_one(text: str, level: Level) -> None:
    for piece in split_text(text, level)[:-1]:
        rest = piece[len(piece.rstrip()) :]
        assert not rest or rest[-1] in "\r\n"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("A.\nB\n\n C", ["A.\n", "B\n\n", " C"]),
        ("\n\nA\r\n\r\nB \n", ["\n\nA\r\n\r\n", "B \n"]),
        ("$a\nb$", ["$a\n", "b$"]),
        ("\\boxed{1\n2}\n3", ["\\boxed{1\n2}\n", "3"]),
    ],
)
def test_lines(text: str, pieces: list[str]) -> None:
    assert list(split_text(text, "line")) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("We add. It is 4.  Is it? Yes! So", ["We add.", " It is 4.", "  Is it?", " Yes!", " So"]),
        ("One line\nand another.\n\nA third", ["One line\n", "and another.\n\n", "A third"]),
        # Points that end no sentence.
        ("It is 3.5 m, e.g. Two or i.e. Three, cf. Fig. 2 and Eq. (3). Next", None),
        ("1. First we add. 2 is left.", ["1. First we add.", " 2 is left."]),
        ("Is 5! = 120? Yes... so it is.", ["Is 5! = 120?", " Yes... so it is."]),
        ("No. It is not. See No. 7 there.", ["No.", " It is not.", " See No. 7 there."]),
        ('He said "no." She did (not.) End.', ['He said "no."', " She did (not.)", " End."]),
        # Formulas are one.
        ("Let $x. Y$ and \\(a. B\\) be. Then", ["Let $x. Y$ and \\(a. B\\) be.", " Then"]),
        ("\\[ a.\n\n B. C \\] Then. $$x. Y$$. So", ["\\[ a.\n\n B. C \\] Then.", " $$x. Y$$.", " So"]),
        ("\\begin{align*}\na. B\n\\end{align*}\nSo. It", ["\\begin{align*}\na. B\n\\end{align*}\n", "So.", " It"]),
        # Money opens no formula, and neither does what is never closed.
        ("It is $5. She pays $3. They", ["It is $5.", " She pays $3.", " They"]),
        ("It costs \\$5. She pays \\$3. They", ["It costs \\$5.", " She pays \\$3.", " They"]),
        ("Let \\[ be. Open \\( here. $x. Y", ["Let \\[ be.", " Open \\( here.", " $x.", " Y"]),
        ("二加二。得四！", ["二加二。", "得四！"]),
    ],
)
def test_sentences(text: str, pieces: list[str] | None) -> None:
    if pieces is None:
        pieces = [text.removesuffix(" Next"), " Next"]
    assert list(split_text(text, "sentence")) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Tom has 2*73=146.\n\nSo", ["Tom", " has", " 2", "*", "73", "=", "146", ".\n\n", "So"]),
        ("don't \\frac{a}{3.5}", ["don", "'t", " \\frac", "{a", "}{", "3", ".", "5", "}"]),
        # Half an answer in the prompt would leave nothing to grade.
        ("x \\boxed{\\frac{1}{2}}.", ["x", " \\boxed{\\frac{1}{2}}."]),
        ("x\n#### 4 5\ny", ["x\n", "#### 4 5\n", "y"]),
        ("The answer is 4 cm.\nAn answer", ["The", " answer is 4 cm.\n", "An", " answer"]),
        ("The answer to this is: 4", ["The", " answer to this is: 4"]),
        ("\\boxed{4", ["\\boxed", "{", "4"]),
    ],
)
def test_tokens(text: str, pieces: list[str]) -> None:
    assert list(split_text(text, "token")) == pieces


def test_the_cuts_of_the_built_in_tokenizer_are_among_its_own() -> None:
    """Cut there, a prompt is read as the tokens that the policy wrote."""
    tokenizers = pytest.importorskip("transformers")
    from openr_data.models import model_entry

    tokenizer = tokenizers.AutoTokenizer.from_pretrained(model_entry("arithmetic").path)
    text = "Tom has 2*73=146 cards.\n\nThen he buys 12 more. So 146+12=158 are his.\n\nThe answer is \\boxed{158}."
    whole = tokenizer.encode(text)
    for level in LEVELS:
        pieces = split_text(text, level)
        assert len(pieces) > 2
        for count in range(1, len(pieces)):
            begun = tokenizer.encode("".join(pieces[:count]))
            assert whole[: len(begun)] == begun


@pytest.mark.parametrize("unit", ["\\[", "$a ", "\\boxed{{", " ", "\\begin{a}", "answer ", "a.\n", "$$"])
def test_a_text_that_has_run_away_costs_its_length(unit: str) -> None:
    # The square of it where a pattern looks for its end again from each of its beginnings.
    assert is_linear(lambda size: [split_text(unit * size, level) for level in LEVELS], 2_000)


def test_the_size_is_a_share_of_the_average() -> None:
    assert piece_size(["a" * 100, "b" * 60], 16) == 5.0
    assert piece_size([], 16) == 0.0


class Written:
    """A policy that writes the same text from everywhere, and remembers what it was asked."""

    name = "written@1"
    separator = "\n\n"

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Prefix] = []

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append(prefix)
        return [Completion(self.text, 1, "end")] * n

    def steps_of(self, text: str) -> tuple[str, ...]:
        raise AssertionError("its steps are pieces")


def test_a_policy_of_pieces_asks_for_the_joined_text_unfinished_and_for_the_question_as_ever() -> None:
    inner = Written("Two. And two.\n\nIs 4. ")
    policy = SplitPolicy(inner, "sentence", 1_000)
    assert (policy.name, policy.separator) == ("written@1", "")
    asyncio.run(policy.sample(Prefix("q"), 3, Sampling()))
    pieces = policy.steps_of(inner.text)
    assert pieces == ("Two.", " And two.\n\n", "Is 4. ")
    asyncio.run(policy.sample(Prefix("q", pieces[:2]), 3, Sampling()))
    assert inner.asked == [Prefix("q"), Prefix("q", ("Two. And two.\n\n",), open=True)]


def test_the_first_rollouts_of_the_question_say_how_long_pieces_are() -> None:
    inner = Written("One. Two. Three. Four. Five. Six.")
    policy = SplitPolicy(inner, "sentence", 3)
    assert len(policy.steps_of(inner.text)) == 6
    asyncio.run(policy.sample(Prefix("q"), 2, Sampling()))
    assert policy.steps_of(inner.text) == ("One. Two.", " Three.", " Four.", " Five. Six.")
    inner.text = "Short."
    asyncio.run(policy.sample(Prefix("q"), 2, Sampling()))
    assert len(policy.steps_of("One. Two. Three. Four. Five. Six.")) == 4, "the size does not change on the way"
