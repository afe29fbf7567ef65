r"""Tests the judge: its prompts, its reading of critiques, its count of votes, and what its job leaves in the store."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from openr_data.config import as_dict, build
from openr_data.derivation.regrade import regrade
from openr_data.engine.protocols import Labeler
from openr_data.errors import UsageError
from openr_data.grading import FinalAnswerGrader, MathGrader
from openr_data.ids import prefix_ids, solution_id
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.judge import (
    PROMPT,
    REASONS,
    TEMPLATES,
    VERSIONS,
    Judge,
    JudgeConfig,
    elected,
    filled,
    named_index,
    reasons_in,
)
from openr_data.reasons import reasons_of
from openr_data.registry import load
from openr_data.store import Store
from openr_data.store.verify import verify
from openr_data.types import (
    Completion,
    Grade,
    Labeling,
    LabelSet,
    Outcome,
    Prefix,
    Provenance,
    Question,
    Sampling,
    Solution,
    Verdict,
)
from tests.conftest import a_question

STEPS = ("One and one is two.", "Two and two is five.", "So \\boxed{5}.")


class Critic(ScriptedPolicy):
    """A policy that answers each prompt with its critiques from `says`, each exactly once in a request for that many samples."""

    def __init__(self, says: Callable[[str], Sequence[str]]) -> None:
        def branches(question: str, steps: tuple[str, ...]) -> list[Branch]:
            texts = says(question)
            return [] if steps else [Branch(Fraction(1, len(texts)), text) for text in texts]

        super().__init__(branches, exact=True, name="critic")
        self.samplings: list[Sampling] = []

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.samplings.append(sampling)
        return await super().sample(prefix, n, sampling)


class NoGrader(FinalAnswerGrader):
    """A judge needs no grader: asking this one is an error."""

    name = "none"

    async def grade(self, answer: str, gold: str) -> Grade:
        raise AssertionError("graded")


def boxed(*indexes: int) -> list[str]:
    return [f"I have looked at it. \\boxed{{{index}}}" for index in indexes]


def a_solution(question: Question, *steps: str, **more: Any) -> Solution:
    return Solution(
        solution_id(question.question_id, steps), question.question_id, steps, None, Verdict.UNKNOWN, **more
    )


def judged(
    critiques: Sequence[str], steps: Sequence[str] = STEPS, *, prompt: str = PROMPT, **more: Any
) -> tuple[Labeling, LabelSet, dict[str, Any]]:
    """Judge one solution with these critiques; return the labeling, its label set and its metadata."""
    question = a_question()
    labeler = Judge(JudgeConfig(len(critiques), prompt), Sampling(**more))
    given = [a_solution(question, *steps)]
    labeling = asyncio.run(labeler.label(question, Critic(lambda _: critiques), NoGrader(), given))
    (label_set,) = labeling.labels
    return labeling, label_set, json.loads(label_set.metadata)["judge"]


def labels(label_set: LabelSet) -> list[int | None]:
    return [step.label for step in label_set.labels]


def values(label_set: LabelSet) -> list[float | None]:
    return [step.value for step in label_set.labels]


# --- the prompt


def test_the_judge_is_asked_once_and_greedily_about_the_solution_between_tags() -> None:
    question = a_question("What is 2+2?")
    critic = Critic(lambda _: boxed(1))
    labeler = Judge(JudgeConfig(), Sampling(temperature=0.7, top_p=0.9, max_tokens=55))
    asyncio.run(labeler.label(question, critic, NoGrader(), [a_solution(question, *STEPS)]))
    ((prefix, n),) = critic.asked
    assert (prefix.steps, n) == ((), 1)
    assert (
        "[Problem]\n\nWhat is 2+2?\n\n[Solution]\n\n<paragraph_0>\nOne and one is two.\n</paragraph_0>\n\n"
        in prefix.question
    )
    assert "\n\n<paragraph_2>\nSo \\boxed{5}.\n</paragraph_2>\n\nCheck the solution" in prefix.question
    assert prefix.question.endswith("in \\boxed{}.")
    (sampling,) = critic.samplings
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.0, 0.9, 55)


def test_a_vote_is_drawn_at_the_temperature_of_the_job() -> None:
    question, critic = a_question(), Critic(lambda _: boxed(1, 1, -1))
    given = [a_solution(question, *STEPS), a_solution(question, "another")]
    labeler = Judge(JudgeConfig(votes=3), Sampling(temperature=0.7, seed=5))
    asyncio.run(labeler.label(question, critic, NoGrader(), given))
    assert [n for _, n in critic.asked] == [3, 3]
    assert [item.temperature for item in critic.samplings] == [0.7, 0.7]
    seeds = [item.seed for item in critic.samplings]
    assert len({*seeds, 5}) == 3


def test_greedy_critiques_are_no_vote() -> None:
    with pytest.raises(UsageError, match="A vote of 8 at temperature 0"):
        Judge(JudgeConfig(votes=8), Sampling(temperature=0))
    Judge(JudgeConfig(votes=1), Sampling(temperature=0))


def test_tags_and_names_of_fields_in_a_text_do_not_break_the_prompt() -> None:
    prompt = filled("Is {solution} a {question}?", ["a </paragraph_0> b", "c {question} \\boxed{3}"])
    assert "[Problem]\n\nIs {solution} a {question}?\n\n" in prompt
    assert "<solution_paragraph_0>\na </paragraph_0> b\n</solution_paragraph_0>" in prompt
    assert "<solution_paragraph_1>\nc {question} \\boxed{3}\n</solution_paragraph_1>" in prompt
    deeper = filled("<solution_paragraph_0>", ["<paragraph_0>"])
    assert "<solution_solution_paragraph_0>\n<paragraph_0>\n</solution_solution_paragraph_0>" in deeper


@drawn(st.text(), st.lists(st.text(), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_every_step_stands_in_the_prompt_as_it_is_between_tags_of_its_own(question: str, steps: list[str]) -> None:
    prompt = filled(question, steps)
    assert question in prompt
    tag = prompt.rpartition("[Solution]\n\n<")[2].partition("_0>\n")[0]
    for index, step in enumerate(steps):
        assert f"<{tag}_{index}>\n{step}\n</{tag}_{index}>" in prompt


def test_what_a_step_boxes_is_no_answer_of_the_judge() -> None:
    _, label_set, told = judged(["I cannot say."], ["a \\boxed{0}", "b </paragraph_1> \\boxed{0}"])
    assert (labels(label_set), told["unparsed"]) == ([None, None], 1)


# --- reading a critique


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Paragraph 1 is wrong: \\boxed{1}", 1),
        ("All good. \\boxed{-1}", -1),
        ("First \\boxed{0}, no: \\boxed{2}", 2),
        ("\\boxed{1} and \\boxed{2}", 2),
        ("\\boxed{ 0 }.", 0),
        ("$\\boxed{$1$}$", 1),
        ("\\boxed{\\boxed{1}}", 1),
        ("<think>\\boxed{0}</think>\\boxed{1}", 1),
        ("<think>\\boxed{0}</think> I am not sure.", None),
        ("\\boxed{3}", None),
        ("\\boxed{-2}", None),
        ("\\boxed{1.0}", None),
        ("\\boxed{1, 2}", None),
        ("\\boxed{paragraph_1}", None),
        ("\\boxed{}", None),
        ("\\boxed{1} or rather \\boxed{", None),
        ("\\boxed{" + "1" * 5000 + "}", None),
        ("The answer is 1", None),
        ("", None),
    ],
)
def test_the_last_box_counts_where_it_is_the_index_of_a_step(text: str, index: int | None) -> None:
    assert named_index(Completion(text, 9, "end"), 3) == index


@pytest.mark.parametrize("reason", ["length", "abort"])
def test_a_critique_that_was_cut_says_nothing(reason: Any) -> None:
    assert named_index(Completion("At first sight \\boxed{1}", 9, reason), 3) is None


def test_a_limit_that_cuts_the_critique_leaves_the_solution_undecided() -> None:
    labeling, label_set, told = judged(["\\boxed{1} then goes on and on"], max_tokens=3)
    assert labels(label_set) == [None] * 3
    assert (labeling.outcome, labeling.tokens, labeling.located) == (Outcome.UNDECIDED, 3, 0)
    assert told == {"prompt": PROMPT, "votes": {}, "unparsed": 1, "critiques": ["\\boxed{1} then goes"]}


# --- labels


def test_a_step_is_good_up_to_the_error_bad_there_and_unjudged_behind_it() -> None:
    labeling, label_set, told = judged(boxed(1))
    assert labels(label_set) == [1, -1, None]
    assert values(label_set) == [1.0, 0.0, None]
    assert {(item.n_correct, item.n_rollouts, item.provenance) for item in label_set.labels} == {
        (0, 0, Provenance.JUDGED)
    }
    question = a_question().question_id
    assert [item.node_id for item in label_set.labels] == list(prefix_ids(question, STEPS))[1:]
    assert (labeling.outcome, labeling.calls, labeling.tokens, labeling.located) == (Outcome.LABELLED, 1, 6, 1)
    assert (labeling.nodes, labeling.rollouts, labeling.probes, labeling.repeated_probes) == ((), (), 0, 0)
    assert told == {"prompt": PROMPT, "votes": {"1": 1}, "unparsed": 0, "critiques": boxed(1)}


def test_a_solution_without_an_error_is_good_throughout() -> None:
    labeling, label_set, _ = judged(boxed(-1))
    assert (labels(label_set), values(label_set)) == ([1, 1, 1], [1.0, 1.0, 1.0])
    assert (labeling.outcome, labeling.located) == (Outcome.LABELLED, 0)


def test_the_most_frequent_index_wins_and_values_are_shares_of_the_parsed_votes() -> None:
    labeling, label_set, told = judged([*boxed(2, 0, 2, -1, 2, 1), "\\boxed{7}", "no idea"])
    assert labels(label_set) == [1, 1, -1]
    # Of six votes one names step 0, another step 1, three step 2, one none.
    assert values(label_set) == [pytest.approx(5 / 6), pytest.approx(4 / 6), pytest.approx(1 / 6)]
    assert list(told["votes"].items()) == [("-1", 1), ("0", 1), ("1", 1), ("2", 3)]
    assert (told["unparsed"], len(told["critiques"]), labeling.calls) == (2, 8, 8)


def test_a_lost_vote_for_an_error_lowers_the_values_of_a_good_solution() -> None:
    _, label_set, _ = judged(boxed(-1, 1, -1, -1))
    assert (labels(label_set), values(label_set)) == ([1, 1, 1], [1.0, 0.75, 0.75])


def test_a_tie_is_undecided() -> None:
    labeling, label_set, told = judged(boxed(1, -1, -1, 1, 0))
    assert (labels(label_set), values(label_set)) == ([None] * 3, [None] * 3)
    assert (labeling.outcome, told["votes"]) == (Outcome.UNDECIDED, {"-1": 2, "0": 1, "1": 2})


@drawn(st.lists(st.integers(-1, 5), max_size=9))
def test_who_is_elected_has_more_votes_than_anybody_else(votes: list[int]) -> None:
    found = elected(Counter(votes))
    ahead = [
        index for index in set(votes) if all(votes.count(index) > votes.count(other) for other in set(votes) - {index})
    ]
    assert ahead == ([] if found is None else [found])


# --- what is given


def test_all_solutions_with_steps_are_judged_as_they_are_and_each_once() -> None:
    question = a_question()
    first = a_solution(question, "a", generator="somebody", metadata='{"x": 1}', n_tokens=7)
    second = a_solution(question, "b", "c")
    says: dict[str, list[str]] = {"\na\n": boxed(0), "\nc\n": boxed(-1)}
    critic = Critic(lambda prompt: next(texts for mark, texts in says.items() if mark in prompt))
    given = [first, a_solution(question), second, first]
    labeler = Judge(JudgeConfig(), Sampling())
    assert labeler.budget(question, given).requests == 2
    labeling = asyncio.run(labeler.label(question, critic, NoGrader(), given))
    assert labeling.solutions == (first, second)
    assert [labels(item) for item in labeling.labels] == [[-1], [1, 1]]
    assert [item.solution_id for item in labeling.labels] == [first.solution_id, second.solution_id]
    assert (labeling.outcome, labeling.calls) == (Outcome.LABELLED, 2)


def test_one_prefix_that_two_solutions_end_wrongly_in_is_one_first_error() -> None:
    question = a_question()
    given = [a_solution(question, "a", more) for more in ("b", "c")]
    labeling = asyncio.run(
        Judge(JudgeConfig(), Sampling()).label(question, Critic(lambda _: boxed(0)), NoGrader(), given)
    )
    assert labeling.located == 1


def test_without_a_solution_with_steps_nothing_is_asked() -> None:
    question, critic = a_question(), Critic(lambda _: boxed(0))
    for given in ([], [a_solution(question)]):
        labeler = Judge(JudgeConfig(), Sampling())
        labeling = asyncio.run(labeler.label(question, critic, NoGrader(), given))
        assert (labeling.outcome, labeling.labels, labeling.solutions) == (Outcome.NO_SOLUTION, (), ())
        assert labeler.budget(question, given).completions == 0
    assert critic.asked == []


def test_a_question_without_a_gold_answer_is_judged() -> None:
    question = a_question(answer="")
    given = [a_solution(question, *STEPS)]
    labeling = asyncio.run(
        Judge(JudgeConfig(), Sampling()).label(question, Critic(lambda _: boxed(0)), NoGrader(), given)
    )
    assert labels(labeling.labels[0]) == [-1, None, None]


def test_one_undecided_solution_does_not_hide_a_decided_one() -> None:
    question = a_question()
    critic = Critic(lambda prompt: boxed(-1) if "\na\n" in prompt else ["?"])
    given = [a_solution(question, "b"), a_solution(question, "a")]
    labeling = asyncio.run(Judge(JudgeConfig(), Sampling()).label(question, critic, NoGrader(), given))
    assert labeling.outcome is Outcome.LABELLED


@drawn(st.integers(1, 5), st.integers(0, 4), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_the_budget_is_kept(votes: int, solutions: int, max_tokens: int) -> None:
    question = a_question()
    given = [a_solution(question, f"{i}") for i in range(solutions)]
    labeler = Judge(JudgeConfig(votes=votes), Sampling(max_tokens=max_tokens))
    critic = Critic(lambda _: ["word " * 20 + "\\boxed{0}"])
    labeling = asyncio.run(labeler.label(question, critic, NoGrader(), given))
    budget = labeler.budget(question, given)
    assert (budget.requests, budget.completions) == (len(critic.asked), labeling.calls)
    assert labeling.tokens <= budget.completion_tokens == votes * solutions * max_tokens


def test_the_solutions_of_a_question_are_asked_about_at_once() -> None:
    class Slow(Critic):
        under_way = most = 0

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
            return await super().sample(prefix, n, sampling)

    question, critic = a_question(), Slow(lambda _: boxed(0))
    given = [a_solution(question, f"{i}") for i in range(5)]
    asyncio.run(Judge(JudgeConfig(), Sampling()).label(question, critic, NoGrader(), given))
    assert critic.most == 5


# --- the version of the prompt


def test_the_version_of_the_prompt_is_an_option_that_pins_a_job() -> None:
    assert load("labeler", "judge") is Judge
    assert as_dict(build(JudgeConfig, {})) == {"votes": 1, "prompt": PROMPT}
    assert PROMPT.startswith("critique@")
    with pytest.raises(UsageError, match=f"asks with the prompt {PROMPT} or {VERSIONS[REASONS]}, not critique@0000"):
        build(JudgeConfig, {"prompt": "critique@00000000"})
    assert [build(JudgeConfig, {"prompt": name}).prompt for name in VERSIONS] == list(VERSIONS.values())
    assert build(JudgeConfig, {"prompt": VERSIONS[REASONS]}) == build(JudgeConfig, {"prompt": REASONS})
    with pytest.raises(UsageError, match="votes is at least 1"):
        build(JudgeConfig, {"votes": 0})


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_each_field_once(name: str) -> None:
    assert [TEMPLATES[name].count(field) for field in ("{question}", "{solution}", "\\boxed{}")] == [1, 1, 1]


# --- reasons


REASONED = "[0] One and one make two.\n[1] Two and two make four, not five.\n\n\\boxed{1}"


def test_a_critique_with_a_line_a_step_leaves_the_reasons_of_the_judged_steps() -> None:
    _, label_set, told = judged([REASONED + "\n[2] Never read."], prompt=REASONS)
    assert labels(label_set) == [1, -1, None]
    assert reasons_of(label_set.metadata, 3) == ("One and one make two.", "Two and two make four, not five.", "")
    assert told["prompt"] == VERSIONS[REASONS]


def test_without_being_asked_for_nothing_is_kept_as_a_reason() -> None:
    _, label_set, _ = judged([REASONED])
    assert reasons_of(label_set.metadata, 3) == ()
    assert "reasons" not in json.loads(label_set.metadata)


def test_the_prompt_that_asks_for_reasons_is_the_one_that_is_sent() -> None:
    for name in TEMPLATES:
        critic = Critic(lambda _: boxed(-1))
        question = a_question()
        asked: list[str] = []
        sample = critic.sample

        async def heard(prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            asked.append(prefix.question)  # noqa: B023
            return await sample(prefix, n, sampling)  # noqa: B023

        critic.sample = heard  # type: ignore[method-assign]
        judge = Judge(JudgeConfig(prompt=name), Sampling())
        asyncio.run(judge.label(question, critic, NoGrader(), [a_solution(question, *STEPS)]))
        assert asked == [filled(question.question, STEPS, name)]


def test_reasons_are_those_of_the_first_critique_that_names_the_elected_step() -> None:
    other = "[0] Wrong from the start.\n\\boxed{0}"
    says = [other, "[1] The sum is four.\n\\boxed{1}", "[0] This is fine.\n[1] Five is not four.\n\\boxed{1}"]
    _, label_set, told = judged(says, prompt=REASONS)
    assert labels(label_set) == [1, -1, None]
    first = next(text for text in told["critiques"] if text != other)
    because = "The sum is four." if first == says[1] else "Five is not four."
    assert reasons_of(label_set.metadata, 3) == ("This is fine.", because, "")


def test_an_undecided_solution_has_no_reasons() -> None:
    _, label_set, _ = judged(["[0] Fine. \\boxed{1}", "[0] Not fine. \\boxed{0}"], prompt=REASONS)
    assert labels(label_set) == [None] * 3
    assert reasons_of(label_set.metadata, 3) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[0] a\n[2] c", {0: "a", 2: "c"}),
        ("**[0]** a\n- [1]: b\n## [2] c", {0: "a", 1: "b", 2: "c"}),
        ("[0] at first\n[0] on second thought", {0: "on second thought"}),
        ("[0] -3 and 4 make 1", {0: "-3 and 4 make 1"}),
        ("[0]\n[1] b", {1: "b"}),
        ("[0] ***", {}),
        ("**[1] wrong**\n_[0] fine_", {1: "wrong", 0: "fine"}),
        ("[1] It is 4.\n[1] \\boxed{1}", {1: "It is 4."}),
        ("[3] no such step", {}),
        ("see [0] for it", {}),
        ("<think>[0] hm</think>[1] b", {1: "b"}),
        ("", {}),
    ],
)
def test_the_line_of_a_step_begins_with_its_index_in_brackets(text: str, found: dict[int, str]) -> None:
    assert reasons_in(Completion(text, 9, "end"), 3) == found


def test_lines_are_found_in_time_that_grows_with_the_text() -> None:
    assert reasons_in(Completion("\n" * 300_000 + "[0" * 100_000 + " " * 300_000, 9, "end"), 3) == {}


# --- in a job


def says(prompt: str) -> list[str]:
    """Five critiques that differ by question: a vote, a tie, a failure to parse, and none at all."""
    if "Question 0?" in prompt:
        return boxed(1, 1, -1, 0, 1)
    if "Question 1?" in prompt:
        return boxed(1, 1, -1, -1, 0)
    return [*boxed(-1, -1, 1), "\\boxed{9}", "ungültig"] if "Question 2?" in prompt else ["hm"]


def run_judge(store: Store, policy: ScriptedPolicy, live: int = 256, **config: Any) -> LabelConfig:
    questions = [a_question(f"Question {i}?", "" if i == 0 else "5") for i in range(4)]
    given = {
        item.question_id: [a_solution(item, *STEPS, generator="g"), a_solution(item, "short")] for item in questions
    }
    options = as_dict(JudgeConfig(votes=5))
    wanted = LabelConfig(source="d", method="judge", policy="critic", into="d", given_solutions=True, options=options)
    wanted = wanted.changed(**config)
    labeler: Labeler = Judge(JudgeConfig(votes=5), Sampling(seed=wanted.seed))
    job = Job.create(store, wanted, {"policy_revision": policy.name})
    dataset = store.dataset("d", create=True)
    run_label(job, wanted, questions, dataset, labeler, policy, MathGrader(), given=given, live=live)
    return wanted


def contents(store: Store) -> dict[str, list[Any]]:
    view = store.view("d")
    return {
        name: sorted(map(repr, view.arrow(name).to_pylist()))
        for name in ("questions", "solutions", "labels", "rollouts", "nodes")
    }


def test_a_job_leaves_labels_with_their_critiques_and_a_whole_dataset(store: Store) -> None:
    run_judge(store, Critic(says))
    view = store.view("d")
    counts = view.counts()
    assert (counts["questions"], counts["labels"], counts["solutions"]) == (4, 8, 8)
    assert (counts["rollouts"], counts["nodes"]) == (0, 0)
    rows = view.sql("select * from records where n_steps = 3 order by question").to_pylist()
    assert [row["label"] for row in rows] == [[1, -1, None], [None] * 3, [1, 1, 1], [None] * 3]
    assert [row["first_error"] for row in rows] == [1, None, None, None]
    assert {(row["method"], row["completer"], row["generator"]) for row in rows} == {("judge", "critic", "g")}
    told = view.sql(
        "select label_metadata->>'$.judge.votes.\"-1\"' as cleared, (label_metadata->>'$.judge.unparsed')::int as unparsed, "
        "len(from_json(label_metadata->'$.judge.critiques', '[\"varchar\"]')) as critiques from records "
        "where n_steps = 3 order by question"
    ).to_pylist()
    assert [(row["cleared"], row["unparsed"], row["critiques"]) for row in told] == [
        ("1", 0, 5),
        ("2", 0, 5),
        ("2", 2, 5),
        (None, 5, 5),
    ]
    assert "ungültig" in rows[2]["label_metadata"]
    assert list(verify(store.dataset("d"))) == []


def test_what_a_job_has_cost_is_written_down(store: Store) -> None:
    run_judge(store, Critic(says))
    rows = store.view("d").sql("select calls, completions, located, probes, outcome from question_costs").to_pylist()
    assert [(row["calls"], row["completions"], row["probes"]) for row in rows] == [(10, 10, 0)] * 4
    assert sorted(row["outcome"] for row in rows) == ["labelled"] * 3 + ["no first error located for sure"]


def test_the_same_job_again_asks_nothing_and_changes_nothing(store: Store) -> None:
    run_judge(store, Critic(says))
    before, again = contents(store), Critic(says)
    run_judge(store, again)
    assert (again.asked, contents(store)) == ([], before)


def undecided_critic() -> ScriptedPolicy:
    """Draws any index, by the seed of the request."""
    return ScriptedPolicy(
        lambda _, steps: [] if steps else [Branch(Fraction(1, 8), text) for text in boxed(*range(-3, 5))]
    )


@pytest.mark.parametrize("live", [1, 2])
def test_the_result_does_not_depend_on_how_many_questions_are_live(store: Store, tmp_path: Path, live: int) -> None:
    run_judge(store, undecided_critic())
    other = Store.open(tmp_path / "other", create=True)
    run_judge(other, undecided_critic(), live)
    assert contents(other) == contents(store)


def test_another_seed_draws_another_vote(store: Store) -> None:
    policy = undecided_critic()
    first, second = run_judge(store, policy), run_judge(store, policy, seed=1)
    assert first.job_id() != second.job_id()
    told = store.view("d").sql("select job_id, list(metadata order by solution_id) as told from labels group by job_id")
    assert len({tuple(row["told"]) for row in told.to_pylist()}) == 2


def test_a_regrade_leaves_the_labels_of_a_judge_alone(store: Store) -> None:
    run_judge(store, Critic(says))
    before = contents(store)
    regraded = regrade(store.dataset("d"), MathGrader())
    assert (regraded.rollouts, sum(regraded.rows.values())) == (0, 0)
    assert contents(store) == before


def test_without_rollout_texts_the_critiques_are_kept_nevertheless(store: Store) -> None:
    run_judge(store, Critic(says), rollout_text=False)
    kept = store.view("d").sql("select count(*) as n from labels where len(metadata->'$.judge.critiques') > 2")
    assert kept["n"].to_pylist() == [8]
