"""The rule from rollouts to labels, against the definitions written out over whole lists of rollouts."""

from hypothesis import given
from hypothesis import strategies as st

from openr_data.label_rule import (
    PrefixEvidence,
    PrefixFacts,
    certain_labels,
    independent_label,
    labels_to_first_error,
    located_labels,
    step_label,
)
from openr_data.labels import Counts
from openr_data.types import Provenance, Verdict

Prefix = tuple[str, ...]
RIGHT, WRONG, UNKNOWN = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN
rollouts = st.lists(
    st.tuples(
        st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
        st.lists(st.sampled_from("ab"), max_size=3).map(tuple),
        st.sampled_from(Verdict),
    ),
    max_size=12,
)


def name(prefix: Prefix) -> str:
    return "root" + "".join(prefix)


def gathered(drawn: list[tuple[Prefix, Prefix, Verdict]]) -> PrefixEvidence:
    evidence = PrefixEvidence(lambda node: node[:-1] if node != "root" else None)
    for start, steps, verdict in drawn:
        evidence.add(name(start), [name(start + steps[: i + 1]) for i in range(len(steps))], verdict)
    return evidence


@given(rollouts, st.lists(st.sampled_from("ab"), max_size=4).map(tuple))
def test_the_facts_of_a_prefix_are_what_the_rollouts_show(
    drawn: list[tuple[Prefix, Prefix, Verdict]], prefix: Prefix
) -> None:
    evidence = gathered(drawn)
    n = len(prefix)
    begun = [verdict for start, _, verdict in drawn if start == prefix]
    through = [
        verdict
        for start, steps, verdict in drawn
        if len(start) <= n <= len(start + steps) and (start + steps)[:n] == prefix
    ]
    ended = [v for start, steps, v in drawn if steps and start + steps == prefix and v is not UNKNOWN]
    certified = any(v is RIGHT and (start + steps)[:n] == prefix for start, steps, v in drawn)
    for passing, verdicts in ((False, begun), (True, through)):
        right, wrong = verdicts.count(RIGHT), verdicts.count(WRONG)
        counts = Counts(right + wrong, right, verdicts.count(UNKNOWN))
        expected = PrefixFacts(counts, ended[0] if ended else None, certified)
        assert evidence.facts(name(prefix), passing=passing) == expected


@given(rollouts)
def test_to_ask_for_a_fact_adds_none(drawn: list[tuple[Prefix, Prefix, Verdict]]) -> None:
    evidence = gathered(drawn)
    before = set(evidence.drawn), set(evidence.passing)
    evidence.facts("elsewhere"), evidence.facts("elsewhere", passing=True)
    assert (set(evidence.drawn), set(evidence.passing)) == before


@given(st.integers(0, 9), st.integers(0, 9), st.sampled_from([None, RIGHT, WRONG]), st.booleans(), st.booleans())
def test_hard_estimation_asks_whether_any_rollout_is_right(
    right: int, wrong: int, terminal: Verdict | None, certified: bool, is_last: bool
) -> None:
    facts = PrefixFacts(Counts(right + wrong, right), terminal, certified)
    label = independent_label(facts, is_last=is_last)
    if right or terminal is RIGHT:
        assert label == 1
    elif terminal is WRONG:
        assert label == (1 if certified and not is_last else -1)
    else:
        assert label == (-1 if wrong else None)


@given(
    st.integers(0, 100), st.integers(0, 100), st.sampled_from([None, RIGHT, WRONG]), st.booleans(), st.booleans(),
    st.sampled_from([0.0, 0.29, 0.3, 0.5, 0.7]),
)  # fmt: skip
def test_with_a_threshold_the_share_decides_and_of_the_last_step_the_answer(
    right: int, wrong: int, terminal: Verdict | None, certified: bool, is_last: bool, threshold: float
) -> None:
    facts = PrefixFacts(Counts(right + wrong, right), terminal, certified)
    label = independent_label(facts, is_last=is_last, threshold=threshold)
    if terminal is not None and (is_last or not right + wrong):
        assert label == (1 if terminal is RIGHT else -1)
    elif not right + wrong:
        assert label is None
    else:
        assert label == (1 if right / (right + wrong) > threshold else -1)


def test_a_share_equal_to_the_threshold_is_not_above_it() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point: a product would call 29 of 100 more than 0.29.
    assert independent_label(PrefixFacts(Counts(100, 29)), is_last=False, threshold=0.29) == -1


def test_a_label_says_what_it_rests_on() -> None:
    counts = Counts(4, 1)
    measured = step_label("n", PrefixFacts(counts), 1)
    assert (measured.value, measured.n_correct, measured.n_rollouts) == (0.25, 1, 4)
    assert measured.provenance is Provenance.MEASURED
    assert step_label("n", PrefixFacts(counts), 1, stopped=True).provenance is Provenance.STOPPED
    noisy_zero = step_label("n", PrefixFacts(Counts(4, 0), certified=True), 1)
    assert (noisy_zero.value, noisy_zero.provenance) == (0.0, Provenance.CERTIFIED)
    assert step_label("n", PrefixFacts(Counts(4, 0), certified=True), -1).provenance is Provenance.MEASURED
    ended = step_label("n", PrefixFacts(Counts(), RIGHT), 1)
    assert (ended.value, ended.provenance) == (1.0, Provenance.INFERRED)
    nothing = step_label("n", PrefixFacts(Counts(0, 0, 3)), None)
    assert (nothing.value, nothing.provenance) == (None, Provenance.INFERRED)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.sampled_from([None, RIGHT, WRONG]))))
def test_the_first_error_is_the_first_step_without_a_certificate_if_it_failed(
    rows: list[tuple[bool, int, Verdict | None]],
) -> None:
    path = [PrefixFacts(Counts(failures, 0), terminal, certified) for certified, failures, terminal in rows]
    labels = labels_to_first_error(path)
    good = 0
    while good < len(path) and path[good].certified:
        good += 1
    assert labels[:good] == [1] * good
    assert certain_labels([facts.certified for facts in path]) == [1] * good + [None] * (len(path) - good)
    if good < len(path):
        failed = path[good].counts.n_rollouts > 0 or path[good].terminal is WRONG
        assert labels[good] == (-1 if failed else None)
        assert labels[good + 1 :] == [None] * (len(path) - good - 1)


@given(st.integers(1, 9), st.data())
def test_a_located_error_has_good_steps_before_it_and_no_labels_after_it(n: int, data: st.DataObject) -> None:
    error = data.draw(st.integers(0, n - 1))
    assert located_labels(n, error) == [1] * error + [-1] + [None] * (n - error - 1)


@given(rollouts)
def test_a_right_rollout_makes_every_step_on_its_way_good(drawn: list[tuple[Prefix, Prefix, Verdict]]) -> None:
    evidence = gathered([*drawn, ((), ("a", "b"), RIGHT)])
    assert labels_to_first_error([evidence.facts("roota"), evidence.facts("rootab")]) == [1, 1]
