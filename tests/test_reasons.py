"""Reasons of steps in the metadata of a label set: what is read is what was written, and nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.reasons import reasons_of, told_reasons

REASONS = st.lists(st.text().map(str.strip), min_size=1, max_size=5)


@given(REASONS)
def test_reasons_come_back_as_they_were_told(reasons: list[str]) -> None:
    found = reasons_of(json.dumps({"judge": {}, **told_reasons(reasons)}), len(reasons))
    assert found == (tuple(reasons) if any(reasons) else ())


@pytest.mark.parametrize("metadata", ["{}", '{"reasons": null}', '{"reasons": [null, " "]}', '{"a": {"reasons": 1}}'])
def test_a_label_set_may_have_none(metadata: str) -> None:
    assert reasons_of(metadata, 2) == ()


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ('{"reasons": ["a"]}', "reasons that are not one entry for each of 2 steps"),
        ('{"reasons": "ab"}', "not one entry"),
        ('{"reasons": ["a", 1]}', "no texts"),
    ],
)
def test_reasons_that_do_not_fit_the_steps_are_refused(metadata: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        reasons_of(metadata, 2)
