"""One step sampled from a prefix: where it ends, what it costs, and that the steps are those of a whole solution."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import JournaledPolicy
from openr_data.engine.step_sampling import sample_step
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.labelers.split import SplitPolicy
from openr_data.steps import join_steps
from openr_data.types import Completion, Prefix, SampledStep, Sampling
from tests.conftest import four_steps

SAMPLING = Sampling(max_tokens=50, seed=5)


def steps(policy: ScriptedPolicy, prefix: Prefix, n: int = 1, sampling: Sampling = SAMPLING) -> list[SampledStep]:
    return list(asyncio.run(sample_step(policy, prefix, n, sampling)))


def writes(text: str, separator: str = "\n\n") -> ScriptedPolicy:
    """A policy whose only solution is this text."""

    def rest(question: str, steps: tuple[str, ...]) -> list[Branch]:
        written = join_steps((*steps, ""), separator) if steps else ""
        return [Branch(Fraction(1), text[len(written) :])] if len(written) < len(text) else []

    return ScriptedPolicy(rest, separator=separator)


class Replies(ScriptedPolicy):
    """A policy that gives the replies it was made with, by what the prefix ends with, and keeps the samplings."""

    def __init__(self, replies: Mapping[str, Sequence[Completion]]) -> None:
        super().__init__({})
        self.replies, self.samplings = replies, list[Sampling]()

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n))
        self.samplings.append(sampling)
        return self.replies[prefix.steps[-1] if prefix.steps else ""][:n]


def walked(policy: ScriptedPolicy, question: str = "q", sampling: Sampling = SAMPLING) -> tuple[list[str], SampledStep]:
    """The steps of one path, a step at a time, and the last one sampled."""

    async def one_by_one() -> tuple[list[str], SampledStep]:
        path: list[str] = []
        while True:
            (step,) = await sample_step(policy, Prefix(question, tuple(path)), 1, sampling)
            if step.text.strip() or step.ended == "stop":
                path.append(step.text)
            if step.ended != "stop":
                return path, step

    return asyncio.run(one_by_one())


def test_a_step_ends_at_the_separator_and_the_last_one_with_the_solution() -> None:
    policy = writes("First a\n\nthen b.")
    (first,) = steps(policy, Prefix("q"))
    assert first == SampledStep("First a", "stop", 2, None, (5, 0))
    (last,) = steps(policy, Prefix("q", ("First a",), open=True))
    # The separator after an open step was still to be written.
    assert (last.text, last.ended) == ("", "stop")
    paths = ScriptedPolicy({(): [Branch(Fraction(1), "a")], ("a",): [Branch(Fraction(1), "b")]})
    assert [(step.text, step.ended) for step in steps(paths, Prefix("q", ("a",)), 2)] == [("b", "end")] * 2
    assert [(step.text, step.ended) for step in steps(paths, Prefix("q", ("a", "b")))] == [("", "end")]


def test_the_samples_of_a_step_are_one_request_and_keep_their_draws() -> None:
    policy = ScriptedPolicy(four_steps)
    drawn = steps(policy, Prefix("q"), 8)
    assert policy.asked == [(Prefix("q"), 8)]
    assert [step.draw for step in drawn] == [(5, index) for index in range(8)]
    assert {step.text for step in drawn} == {"right 1 of q", "wrong 1 of q"}
    assert {(step.ended, step.calls) for step in drawn} == {("stop", 1)}


@given(st.lists(st.sampled_from(["a", "b c", "\n\n", "\n", " "]), max_size=12).map("".join))
@example("\n\n\n\na\n\n\n\nb\n\n")
@example("\n\n")
@example("a\n\n\n\n")
def test_the_steps_of_a_path_are_the_text_of_the_whole_solution(text: str) -> None:
    policy = writes(text)
    path, last = walked(policy)
    whole = join_steps(path)
    assert last.ended == "end"
    # If the solution ended after a separator, the rest of the text is blank.
    assert text.startswith(whole)
    assert not text[len(whole) :].strip()
    assert all(step.strip() for step in path)
    assert [step.strip() for step in path] == [step.strip() for step in policy.steps_of(text) if step.strip()]


def test_a_step_has_the_separator_of_the_policy() -> None:
    assert walked(writes("a\n\nb<step>c", "<step>"))[0] == ["a\n\nb", "c"]


def test_blank_lines_are_continued_and_stand_before_the_step() -> None:
    policy = Replies(
        {
            "s": [Completion("", 1, "stop", -1.0), Completion("plain", 1, "end", -3.0)],
            "\n\n": [Completion(" ", 2, "stop", -0.5)],
            "\n\n \n\n": [Completion("step", 4, "stop", -0.25, draw=(9, 3))],
        }
    )
    blank, plain = steps(policy, Prefix("q", ("s",)), 2)
    assert blank == SampledStep("\n\n \n\nstep", "stop", 7, -1.75, (9, 3), calls=3)
    assert plain == SampledStep("plain", "end", 1, -3.0, (5, 1))
    assert policy.asked[1:] == [
        (Prefix("q", ("s", "\n\n"), open=True), 1),
        (Prefix("q", ("s", "\n\n \n\n"), open=True), 1),
    ]
    # The limit is that of the step, and every request has its own seed.
    assert [sampling.max_tokens for sampling in policy.samplings] == [50, 49, 47]
    assert len({sampling.seed for sampling in policy.samplings}) == 3


def test_blank_lines_up_to_the_limit_are_a_cut_step() -> None:
    policy = Replies({"": [Completion("", 1, "stop", -1.0)], "\n\n": [Completion("", 1, "stop", -1.0)]})
    (step,) = steps(policy, Prefix("q"), 1, replace(SAMPLING, max_tokens=2))
    assert step == SampledStep("\n\n\n\n", "length", 2, -2.0, step.draw, calls=2)


def test_a_step_at_the_limit_is_cut() -> None:
    (step,) = steps(writes("a b c\n\nd"), Prefix("q"), 1, replace(SAMPLING, max_tokens=2))
    assert (step.text, step.ended, step.n_tokens) == ("a b", "length", 2)
    (cancelled,) = steps(Replies({"": [Completion("a", 1, "abort", -1.0)]}), Prefix("q"))
    assert cancelled.ended == "abort"


def test_a_policy_that_writes_on_is_cut_and_its_tokens_count() -> None:
    text = "\n\na\n\nb\n\nc"
    (step,) = steps(Replies({"": [Completion(text, 9, "end", -2.0)]}), Prefix("q"))
    assert step == SampledStep("\n\na", "stop", 9, None, (5, 0))
    (opened,) = steps(Replies({"s": [Completion(text, 9, "end", -2.0)]}), Prefix("q", ("s",), open=True))
    assert opened == SampledStep("", "stop", 9, None, (5, 0))


def test_a_step_needs_a_separator_and_no_other_stop_string() -> None:
    with pytest.raises(ValueError, match="stop strings"):
        steps(writes("a"), Prefix("q"), 1, replace(SAMPLING, stop=("x",)))
    with pytest.raises(ValueError, match="the separator ''"):
        asyncio.run(sample_step(SplitPolicy(writes("a"), "line", 2), Prefix("q"), 1, SAMPLING))


def test_a_step_is_journaled_and_replayed(tmp_path: Path) -> None:
    found: list[Sequence[SampledStep]] = []
    for _ in range(2):
        journal = Journal(tmp_path / "journal")
        backend = ScriptedPolicy(four_steps)
        policy = JournaledPolicy(backend, journal)
        assert policy.separator == "\n\n"
        found.append(asyncio.run(sample_step(policy, Prefix("q"), 4, SAMPLING)))
        journal.close()
    assert found[0] == found[1]
    assert backend.asked == []
