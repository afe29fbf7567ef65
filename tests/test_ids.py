"""Content hashes: equal content, equal id; different content, different id."""

from hypothesis import given
from hypothesis import strategies as st

from openr_data import ids

TEXTS = st.lists(st.text(), max_size=5)


@given(TEXTS, TEXTS)
def test_two_lists_of_parts_share_a_hash_only_when_they_are_equal(first: list[str], second: list[str]) -> None:
    assert (ids.content_hash("x", *first) == ids.content_hash("x", *second)) == (first == second)


@given(TEXTS)
def test_the_kind_is_part_of_the_hash(parts: list[str]) -> None:
    assert ids.content_hash("a", *parts) != ids.content_hash("b", *parts)


def test_ids_do_not_change_between_releases() -> None:
    question = ids.question_id("What is 1+1?", "2")
    assert question == "d2a6cfdd038b1b6febb0256f4f253b1e"
    assert ids.question_id(" What is 1+1?\n", "2 ") == question


@given(st.lists(st.text(), max_size=6))
def test_prefix_ids_are_the_chain_of_child_ids(steps: list[str]) -> None:
    chain = list(ids.prefix_ids("q", steps))
    assert chain[0] == ids.root_id("q")
    assert len(chain) == len(steps) + 1
    for parent, child, step in zip(chain, chain[1:], steps, strict=False):
        assert child == ids.child_id(parent, step)


@given(st.lists(st.text(), min_size=1, max_size=6), st.data())
def test_the_chain_can_be_taken_up_at_any_node(steps: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(steps)))
    whole = list(ids.prefix_ids("q", steps))
    assert list(ids.prefix_ids("q", steps[cut:], whole[cut])) == whole[cut:]


def test_the_id_of_a_configuration_does_not_depend_on_the_order_of_its_keys() -> None:
    assert ids.config_id({"a": 1, "b": [2]}) == ids.config_id({"b": [2], "a": 1})
    assert ids.config_id({"a": 1}) != ids.config_id({"a": 2})


@given(st.integers(), st.text())
def test_a_seed_is_a_positive_63_bit_number(number: int, name: str) -> None:
    assert 0 <= ids.derive_seed(number, name) < 2**63


@given(st.text(), st.lists(st.text()))
def test_the_ids_of_a_process_are_those_of_its_parts(question: str, steps: list[str]) -> None:
    name = ids.question_id(question, "")
    solution, nodes = ids.process_ids(name, steps)
    assert solution == ids.solution_id(name, steps)
    assert nodes == list(ids.prefix_ids(name, steps))[1:]
    assert all(node == ids.child_id(above, step) for node, above, step in zip(
        nodes, [ids.root_id(name), *nodes], steps, strict=False))  # fmt: skip
