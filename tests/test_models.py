"""How a prefix becomes a prompt."""

from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError
from openr_data.models import ModelEntry, catalog, check_template, model_entry, render, stop_strings
from openr_data.types import Prefix


class Chat:
    chat_template = "yes"

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        assert options == {"tokenize": False, "add_generation_prompt": True}
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in conversation) + "<assistant>"


class Plain:
    chat_template = None

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        raise AssertionError("a plain model has no chat template")


@pytest.mark.parametrize(
    ("entry", "tokenizer", "steps", "prompt"),
    [
        (ModelEntry("m"), Plain(), (), "Q\n\n"),
        (ModelEntry("m"), Plain(), ("a", "b"), "Q\n\na\n\nb\n\n"),
        (ModelEntry("m", separator="\n"), Plain(), ("a",), "Q\na\n"),
        (ModelEntry("m", question_format="Problem: {question}"), Plain(), (), "Problem: Q\n\n"),
        (ModelEntry("m"), Chat(), (), "<user>Q<assistant>"),
        # The steps are the beginning of the assistant's own turn, separator and all.
        (ModelEntry("m", system="S"), Chat(), ("a",), "<system>S<user>Q<assistant>a\n\n"),
        (ModelEntry("m", template="plain"), Chat(), ("a",), "Q\n\na\n\n"),
    ],
)
def test_a_prefix_is_rendered(entry: ModelEntry, tokenizer: Any, steps: tuple[str, ...], prompt: str) -> None:
    assert render(Prefix("Q", steps), entry, tokenizer) == prompt


def test_braces_in_a_question_are_left_alone() -> None:
    entry = ModelEntry("m", question_format="{question}!")
    assert render(Prefix(r"\frac{1}{question}"), entry, Plain()) == "\\frac{1}{question}!\n\n"


def test_the_shipped_policy_is_found_and_a_missing_folder_is_named() -> None:
    assert (Path(model_entry("arithmetic").path) / "config.json").is_file()
    assert model_entry("some/hub-model") == ModelEntry("some/hub-model")
    with pytest.raises(InputError, match=r"No model folder '\./nowhere'.*arithmetic"):
        model_entry("./nowhere")


def test_every_entry_of_the_catalog_is_valid() -> None:
    assert "Qwen/Qwen2.5-Math-7B-Instruct" in catalog()
    assert all(entry.max_tokens > 0 for entry in catalog().values())


def test_stop_strings_are_joined_without_repeats() -> None:
    assert stop_strings(ModelEntry("m", stop=("a", "b")), ("b", "c")) == ("a", "b", "c")


class NoSystem(Chat):
    """A template that takes no system message, as some do."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        if conversation[0]["role"] == "system":
            raise ValueError("System role not supported\nat line 3")
        return super().apply_chat_template(conversation, **options)


def test_a_template_that_cannot_write_the_prompt_is_told_before_anything_is_asked() -> None:
    check_template(ModelEntry("m"), NoSystem())
    check_template(ModelEntry("m", template="plain", system="S"), NoSystem())
    with pytest.raises(
        InputError, match=r"'m' cannot write the prompt \(System role not supported\)\. .*without `system`"
    ):
        check_template(ModelEntry("m", system="S"), NoSystem())
    with pytest.raises(InputError, match=r'AssertionError|a plain model.*template = "plain"'):
        check_template(ModelEntry("m", template="chat"), Plain())
