"""`openr_data.__all__` is what it says."""

import openr_data


def test_every_public_name_can_be_had() -> None:
    for name in openr_data.__all__:
        assert getattr(openr_data, name) is not None


def test_the_names_for_editors_are_those_that_can_be_had() -> None:
    assert openr_data.__all__ == sorted(openr_data._NAMES)


def test_the_public_names_are_sorted_and_few() -> None:
    assert list(openr_data.__all__) == sorted(openr_data.__all__)
    assert len(openr_data.__all__) < 30


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(openr_data, "nonsense")
