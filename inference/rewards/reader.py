"""How a reward model reads solutions, known before its weights are loaded: format, tokenizer, name and length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from openr_data.errors import InputError
from openr_data.models import ModelEntry, model_entry
from openr_data.prm_format import CONFIG_KEY, WRITES, Encoded, PrmEncoder, PrmFormat, format_of

from ..serving.model_files import first_line, place


@dataclass(frozen=True, slots=True)
class RewardReader:
    """Lays solutions out as token ids. `name` is model, revision and format; `writes`: the model was trained to write
    reasons. `room` is how many tokens a solution may have, None for no bound.
    """

    name: str
    form: PrmFormat
    encoder: PrmEncoder
    room: int | None
    writes: bool = False

    def encode(self, question: str, steps: Sequence[str]) -> Encoded:
        """The ids of a solution. Raises `InputError` for one that is empty or longer than the context."""
        encoded = self.encoder.encode(question, steps)
        if self.room is not None and len(encoded.ids) > self.room:
            raise InputError(
                f"A solution of {len(encoded.ids)} tokens does not fit the {self.room} positions of {self.name}: "
                f"{question[:60]!r}."
            )
        return encoded


@dataclass(frozen=True, slots=True)
class RewardFiles:
    """The files beside the weights of a reward model: configuration, tokenizer and format."""

    config: Any
    tokenizer: Any
    form: PrmFormat

    def reader(self, model: str, revision: str, room: int | None) -> RewardReader:
        """The reader of a model of this revision. Raises `InputError` where the tokenizer does not fit the format."""
        name = f"{model}@{revision}.{self.form.digest()}"
        own = self.config.to_dict().get(CONFIG_KEY) or {}
        return RewardReader(name, self.form, PrmEncoder(self.form, self.tokenizer), room, bool(own.get(WRITES)))


def load_files(model: str, entry: ModelEntry, wanted: str, hint: str = "") -> RewardFiles:
    """Configuration, tokenizer and format (the one `wanted`, else the model's own).

    Raises `InputError` for files that cannot be loaded (its message ends with `hint`), a model whose format is not
    known, and one that has another head than its format reads.
    """
    path, revision = place(entry)
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        form = format_of(model, config.to_dict(), wanted)
        _check_head(model, form, config)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(cannot_load(model, error) + hint) from error
    return RewardFiles(config, tokenizer, form)


def check(model: str, wanted: str = "", *, writes: bool = False) -> None:
    """Check everything but the weights. Raises what `load_files` raises, `InputError` for a tokenizer that lacks the
    tokens of the format, and with `writes` also for a model that was not trained to write reasons."""
    reader = load_files(model, model_entry(model), wanted).reader(model, "", None)
    if writes and not reader.writes:
        raise no_reasons(model)


def no_reasons(name: str) -> InputError:
    """The error of a model that is asked for reasons and was not trained to write them."""
    return InputError(
        f"{name} was not trained to write reasons. Train a model that does with: openr-data train prm DATA "
        "--generative --reasons"
    )


def cannot_load(model: str, error: BaseException) -> str:
    """The message for files that cannot be loaded as a reward model."""
    return (
        f"Cannot load the reward model {model!r}: {first_line(error)} Name a folder that `openr-data train prm` wrote, "
        "or a Hub repository."
    )


def _check_head(model: str, form: PrmFormat, config: Any) -> None:
    """Raises `InputError` where a checkpoint has another head than its format reads."""
    names = getattr(config, "architectures", None) or []
    is_causal = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    is_classifier = any(name.endswith("ForTokenClassification") for name in names)
    if names and (is_causal if form.head != "lm_pair" else not is_causal):
        raise InputError(
            f"{model} is a {names[0]}, and the PRM format {form.name!r} reads the head {form.head!r}. Name the format "
            "it was trained with: --format."
        )
    classes = getattr(config, "num_labels", 2)
    if is_classifier and form.head == "classes" and form.good_class >= classes:
        raise InputError(f"{model} has {classes} classes, and its PRM format {form.name!r} reads {form.good_class}.")
