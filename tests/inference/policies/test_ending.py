"""Which stop string ends a sample, and whether it is the model's own."""

import pytest

from openr_data.inference.policies.ending import cut_at_stop, ended_by
from openr_data.types import Ended


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("a b", ("x",), None),
        ("a\n\nb", ("\n\n",), ("a", "stop")),
        ("a END b", ("END", "b"), ("a ", "end")),
        # The one that is complete first, though another one begins before it.
        ("a b c d", ("b c d", "c"), ("a b ", "stop")),
        # Of two that end together the first one of the list.
        ("abc", ("bc", "c"), ("a", "stop")),
        ("abc", ("c", "bc"), ("ab", "stop")),
        ("", ("x",), None),
    ],
)
def test_the_text_ends_before_the_stop_string_that_is_complete_first(
    text: str, stops: tuple[str, ...], cut: tuple[str, Ended] | None
) -> None:
    assert cut_at_stop(text, stops, ("END",)) == cut


def test_a_stop_string_of_the_model_is_its_own_end_also_where_the_request_has_it() -> None:
    assert ended_by("END", ("END",)) == "end"
    assert ended_by("x", ("END",)) == "stop"
