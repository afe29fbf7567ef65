"""How a process reward model reads a solution: golden layouts of every preset, and what holds for any text.

In a golden text ▲ stands behind each token that is read.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import Qwen2Tokenizer, TokenizersBackend

from openr_data.errors import InputError, UnknownName, UsageError
from openr_data.exchange.formats.format import Tally
from openr_data.exchange.formats.math_shepherd import MathShepherdFormat, MathShepherdOptions
from openr_data.prm_format import CONFIG_KEY, PrmEncoder, PrmFormat, format_of, prm_format, prm_formats

QWEN_CHAT = (
    "{% for turn in messages %}{% if loop.first and turn.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_CHAT = (
    "{{ bos_token }}{% if date_string is not defined %}{% set date_string = raise_exception('no day') %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
    "{% for turn in messages %}<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n"
    "{{ turn.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NEWLINES = ["Ċ Ċ", "ĊĊ ĊĊ", "ĊĊĊĊ Ċ", "Ġ ĊĊĊĊĊ"]
QWEN_TOKENS = ("<|step|>", "<|good|>", "<|bad|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_pad|>", "<extra_0>")
FAST: Any = TokenizersBackend
QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def vocabulary(alphabet: list[str], merges: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces to ids, and the merges that make them: "Ċ Ċ" makes one piece of two."""
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    pieces = dict.fromkeys([*alphabet, *(left + right for left, right in pairs)])
    return {piece: place for place, piece in enumerate(pieces)}, pairs


@cache
def qwen(is_special: bool = True, *more: str, bos: str | None = None) -> Any:
    """A Qwen2 tokenizer with few merges; Qwen2.5 has its fim tokens as added tokens that are not special."""
    vocab, merges = vocabulary(sorted(pre_tokenizers.ByteLevel.alphabet()), [*NEWLINES, "Ġ +", "Ġ -", "a d", "ad d"])
    build: Any = Qwen2Tokenizer
    made = build(vocab, merges, bos_token=bos)
    made.add_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
    made.add_tokens([AddedToken(text, special=is_special) for text in (*QWEN_TOKENS, *more)])
    made.chat_template = QWEN_CHAT
    return made


@cache
def llama() -> Any:
    """A Llama 3 tokenizer: byte level, headers, and a first token that its post-processor writes."""
    vocab, merges = vocabulary(sorted(pre_tokenizers.ByteLevel.alphabet()), [*NEWLINES, "Ġ +", "Ġ -", "Ġ a"])
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    split = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    first = "<|begin_of_text|>"
    core.add_special_tokens([first, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    core.post_processor = processors.TemplateProcessing(
        f"{first} $A", special_tokens=[(first, core.token_to_id(first))]
    )
    return FAST(tokenizer_object=core, bos_token=first, eos_token="<|eot_id|>", chat_template=LLAMA_CHAT)


@cache
def piece(scheme: str = "first", *added: AddedToken, has_bytes: bool = True, has_lines: bool = False) -> Any:
    """A SentencePiece tokenizer like Mistral's, with a space before every text as transformers has written it.

    "first": Metaspace before the first text; "always": before each between special tokens; "never": nowhere;
    "prepend": by the normalizer, as old files do, which puts a second space before one that is there.
    """
    letters = [*map(chr, range(0x21, 0x7F)), "▁", "к", "и"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    merges = ["к и", "▁ ки", "▁ +", "▁ -", "▁ S", "t e", "te p", "▁S tep", "▁ Q", "▁ a"]
    merges += ["\n \n"] if has_lines else []
    vocab, pairs = vocabulary(
        ["<unk>", "<s>", "</s>", *(bytes_ if has_bytes else ()), *letters, *"\n" * has_lines], merges
    )
    core = Tokenizer(models.BPE(vocab=vocab, merges=pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=has_bytes))
    if scheme == "prepend":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    made = FAST(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.add_tokens(list(added))
    return made


def skywork() -> Any:
    return qwen(bos="<|endoftext|>")


def laid_out(encoder: PrmEncoder, tokenizer: Any, question: str, steps: tuple[str, ...]) -> str:
    """The decoded text, a ▲ behind each token that is read."""
    encoded = encoder.encode(question, steps)
    ends = [len(tokenizer.decode(encoded.ids[: at + 1])) for at in encoded.read]
    text = tokenizer.decode(encoded.ids)
    return "▲".join(text[start:end] for start, end in pairwise([0, *ends, len(text)]))


# Preset, tokenizer, layout, positions, the token read, the first token, good and bad (or the class).
GOLDENS: list[tuple[str, Callable[[], Any], str, tuple[int, ...], str, str, tuple[str, str] | int]] = [
    (
        "openr-data",
        qwen,
        "Q 1?\n\nadd 2\nto it<|step|>▲\n\nit is 3.<|step|>▲",
        (14, 24),
        "<|step|>",
        "Q",
        ("<|good|>", "<|bad|>"),
    ),
    (
        "openr-qwen",
        qwen,
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nQ 1?<|im_end|>\n"
        "<|im_start|>assistant\nadd 2\nto it<|fim_pad|>▲\n\nit is 3.<|fim_pad|>▲",
        (70, 80),
        "<|fim_pad|>",
        "<|im_start|>",
        ("<|fim_prefix|>", "<|fim_suffix|>"),
    ),
    (
        "math-shepherd",
        piece,
        "<s> Q 1? Step 1: add 2\nto it ки▲\nStep 2: it is 3. ки▲",
        (20, 36),
        "▁ки",
        "<s>",
        ("▁+", "▁-"),
    ),
    (
        "math-psa",
        qwen,
        "Q 1? add 2\nto it \n\n\n\n\n▲ it is 3. \n\n\n\n\n▲",
        (14, 24),
        "ĠĊĊĊĊĊ",
        "Q",
        ("Ġ+", "Ġ-"),
    ),
    (
        "qwen",
        qwen,
        f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n<|im_start|>user\nQ 1?<|im_end|>\n"
        "<|im_start|>assistant\nadd 2\nto it<extra_0>▲it is 3.<extra_0>▲",
        (112, 121),
        "<extra_0>",
        "<|im_start|>",
        1,
    ),
    (
        "rlhflow",
        llama,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ 1? add 2\nto it<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n▲+<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nit is 3.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n▲+",
        (69, 99),
        "ĊĊ",
        "<|begin_of_text|>",
        ("+", "-"),
    ),
    ("skywork", skywork, "<|endoftext|>Q 1?\nadd 2\nto it\n▲it is 3.\n▲", (15, 24), "Ċ", "<|endoftext|>", 1),
    ("trl", qwen, "Q 1?add 2\nto it\n▲it is 3.\n▲", (13, 22), "Ċ", "Q", 1),
]
STEPS = ("add 2\nto it", "it is 3.")


@pytest.mark.parametrize(("name", "tokenizer", "text", "read", "token", "first", "labels"), GOLDENS)
def test_a_preset_lays_a_solution_out_as_its_model_was_trained(
    name: str, tokenizer: Any, text: str, read: tuple[int, ...], token: str, first: str, labels: Any
) -> None:
    encoder = PrmEncoder(prm_format(name), tokenizer())
    encoded = encoder.encode("Q 1?", STEPS)
    name_of = tokenizer().convert_ids_to_tokens
    assert laid_out(encoder, tokenizer(), "Q 1?", STEPS) == text
    assert encoded.read == read
    assert [name_of(encoded.ids[at]) for at in read] == [token] * len(read)
    assert name_of(encoded.ids[0]) == first
    assert [name_of(item) for item in encoder.tag] == ([] if name == "rlhflow" else [token])
    if isinstance(labels, int):
        assert (encoder.good, encoder.bad, encoder.form.good_class) == (-1, -1, labels)
    else:
        assert (name_of(encoder.good), name_of(encoder.bad)) == labels


def test_every_preset_has_a_golden_layout() -> None:
    assert {case[0] for case in GOLDENS} == set(prm_formats())


def test_no_hub_name_is_listed_twice() -> None:
    listed = [model for form in prm_formats().values() for model in form.models]
    assert len(listed) == len(set(listed))


def test_the_chat_presets_write_what_the_chat_template_writes() -> None:
    """Qwen's own code tokenises the whole conversation, with the tags in the assistant's turn."""
    asked = [{"role": "system", "content": QWEN_SYSTEM}, {"role": "user", "content": "Q 1?"}]
    turns = [*asked, {"role": "assistant", "content": "<extra_0>".join([*STEPS, ""])}]
    whole = qwen().encode(qwen().apply_chat_template(turns, tokenize=False), add_special_tokens=False)
    found = PrmEncoder(prm_format("qwen"), qwen()).encode("Q 1?", STEPS).ids
    assert [*found, *qwen().encode("<|im_end|>\n")] == whole


def test_the_turns_of_rlhflow_are_those_of_the_chat_template() -> None:
    said = [("user", f"Q 1? {STEPS[0]}"), ("assistant", "+"), ("user", STEPS[1]), ("assistant", "+")]
    turns = [{"role": role, "content": text} for role, text in said]
    text = llama().apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024")
    encoded = PrmEncoder(prm_format("rlhflow"), llama()).encode("Q 1?", STEPS)
    assert [*encoded.ids, llama().eos_token_id] == llama().encode(text, add_special_tokens=False)
    assert [encoded.ids[at + 1] for at in encoded.read] == llama().encode("++", add_special_tokens=False)


@pytest.mark.parametrize("scheme", ["first", "always", "prepend"])
def test_math_shepherd_gives_the_tokens_of_the_whole_text(scheme: str) -> None:
    """Wherever transformers puts SentencePiece's first space, there is one before the question and no other."""
    encoder = PrmEncoder(prm_format("math-shepherd"), piece(scheme))
    encoded = encoder.encode("Q 1?", ("add", "b"))
    tokens = "<s> ▁Q ▁ 1 ? ▁Step ▁ 1 : ▁a d d ▁ки <0x0A> S tep ▁ 2 : ▁ b ▁ки"
    assert " ".join(piece(scheme).convert_ids_to_tokens(list(encoded.ids))) == tokens
    assert piece(scheme).convert_ids_to_tokens([encoder.good, encoder.bad]) == ["▁+", "▁-"]


@pytest.mark.parametrize("scheme", ["first", "always", "prepend", "never"])
def test_a_tag_or_label_with_a_space_in_front_is_one_token_wherever_the_first_space_comes_from(scheme: str) -> None:
    form = PrmFormat("x", joiner=" ", tag=" ки", good=" +", bad=" -", cut=False)
    encoder = PrmEncoder(form, piece(scheme))
    assert piece(scheme).convert_ids_to_tokens([*encoder.tag, encoder.good, encoder.bad]) == ["▁ки", "▁+", "▁-"]


@pytest.mark.parametrize("scheme", ["first", "always", "prepend", "never"])
def test_a_text_that_goes_on_begins_without_a_space_of_its_own(scheme: str) -> None:
    tokenizer = piece(scheme, AddedToken("<|step|>", special=True))
    form = PrmFormat("x", joiner=":", step_joiner=";", tag="<|step|>", head="scalar")
    assert laid_out(PrmEncoder(form, tokenizer), tokenizer, "Q", ("Step", "Step", "\n a")).removeprefix(
        "<s> "
    ).removeprefix("<s>") == ("Q:Step<|step|>▲;Step<|step|>▲;\n a<|step|>▲")
    ids = PrmEncoder(PrmFormat("x", joiner="", tag="<|step|>", head="scalar"), tokenizer).encode("Q", ("te", "te")).ids
    assert tokenizer.convert_ids_to_tokens(list(ids[-4:])) == ["te", "<|step|>", "te", "<|step|>"]


def test_a_line_break_that_merges_with_others_is_still_tokenised_as_in_its_place() -> None:
    tokenizer = piece(has_lines=True)
    ids = PrmEncoder(PrmFormat("x", joiner="", head="scalar"), tokenizer).encode("Q", ("\n\na", "\nte")).ids
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["<s>", "▁Q", "\n\n", "a", "\n", "te"]


def test_an_unknown_text_behind_an_unknown_one_is_not_lost() -> None:
    """Without bytes to fall back on, unknown characters in a row are one token: nothing may be put before a text."""
    tokenizer = piece(has_bytes=False)
    ids = PrmEncoder(PrmFormat("x", joiner="", head="scalar"), tokenizer).encode("Q", ("ж", "ж")).ids
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["<s>", "▁Q", *("▁", "<unk>") * 2]


def test_our_text_is_the_input_of_real_math_shepherd_rows(shared_data: Path) -> None:
    path = shared_data / "formats" / "math_shepherd.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    encoder = PrmEncoder(prm_format("math-shepherd"), piece())
    reader = MathShepherdFormat(MathShepherdOptions(), "math-shepherd", "train")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows
    for row in rows:
        (record,) = reader.read(row, Tally())
        encoded = encoder.encode(record.question.question, record.steps)
        assert piece().decode(encoded.ids).removeprefix("<s>").strip() == row["input"].strip()
        assert list(encoded.ids) == piece().encode(row["input"].strip())
        # Steps without their numbers, as a policy writes them, are numbered.
        bare = [step.split(": ", 1)[1] for step in record.steps]
        assert encoder.encode(record.question.question, bare) == encoded


def test_a_first_token_is_written_once_or_not_at_all() -> None:
    form = prm_format("trl")
    assert PrmEncoder(form, llama()).encode("Q", ("a",)).ids[:2] == tuple(llama().encode("Q"))
    assert PrmEncoder(form, skywork()).encode("Q", ("a",)).ids[:2] == tuple(skywork().encode("<|endoftext|>Q"))
    assert PrmEncoder(form, qwen()).encode("Q", ("a",)).ids[:1] == tuple(qwen().encode("Q"))
    assert PrmEncoder(form, piece()).encode("Q", ("a",)).ids[:2] == tuple(piece().encode("Q"))
    # What the tokenizer puts there counts more than what it calls its first token.
    core = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "Q": 3, "a": 4}, unk_token="[SEP]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    named = FAST(tokenizer_object=core, bos_token="[BOS]")
    assert PrmEncoder(PrmFormat("x", head="scalar"), named).encode("Q", ("a",)).ids == (0, 3, 4)


def test_a_chat_keeps_its_assistant_and_a_question_keeps_its_own_segment() -> None:
    chat = PrmFormat("x", template="chat", head="scalar")
    joined = PrmFormat("x", template="chat", head="scalar", cut=False)
    assert PrmEncoder(chat, qwen()).encode("Q", ("a",)) == PrmEncoder(joined, qwen()).encode("Q", ("a",))
    # "Ġ+" is a token: cut behind the joiner it cannot come about, in one segment it does.
    for cut, tokens in ((True, ["Q", "Ġ", "+"]), (False, ["Q", "Ġ+"])):
        form = PrmFormat("x", joiner=" ", head="scalar", cut=cut)
        assert qwen().convert_ids_to_tokens(list(PrmEncoder(form, qwen()).encode("Q", ("+",)).ids)) == tokens


def test_prefix_and_suffix_and_the_wording_of_the_question_are_written() -> None:
    form = PrmFormat(
        "x", question_format="P: {question}", step_prefix="{i}) ", step_suffix=";", step_joiner="|", head="scalar"
    )
    # Without a tag a step is read at its own last token; what the texts hold in braces stays.
    text = "P: {i}{question}\n\n1) a{i};▲|2) b;▲|3) 2) c;▲"
    assert laid_out(PrmEncoder(form, qwen()), qwen(), "{i}{question}", ("a{i}", "2) b", "2) c")) == text


def test_a_tag_of_several_tokens_is_spliced_in_whole_or_as_its_last() -> None:
    for tag_tokens, text in (("all", "Q\n\na<#>▲b<#>▲"), ("last", "Q\n\na>▲b>▲")):
        form = PrmFormat("x", tag="<#>", tag_tokens=tag_tokens, head="scalar")  # type: ignore[arg-type]
        encoder = PrmEncoder(form, qwen())
        assert laid_out(encoder, qwen(), "Q", ("a", "b")) == text
        assert encoder.tag == tuple(qwen().encode("<#>")[-len(encoder.tag) :])
    # A tag is the format's own text: a special token in it is one.
    form = PrmFormat("x", tag=".\n<|step|>", tag_tokens="all", head="scalar")
    assert qwen().convert_ids_to_tokens(list(PrmEncoder(form, qwen()).tag)) == [".", "Ċ", "<|step|>"]


# Properties of any text.

FRAGMENTS = [
    *("<|step|>", "<|good|>", "<|bad|>", "<|fim_pad|>", "<|fim_prefix|>", "<|fim_suffix|>", "<extra_0>", "ки", " ки"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>"),
    *("<", "<|", "|step|>", "step|>", "+", "-", " +", " -", "\n", "\r\n", "\n\n", " \n\n\n\n\n", " ", "  ", "\t"),
    *("é", "e\u0301", "\u2581", "\u2983", "\u200b", "<0x0A>", "{i}", "{question}", "Step 1: ", "Step 2: ", "\x00"),
]
TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=6).map("".join)
STEP = TEXT.filter(lambda text: bool(text.strip()))
SOLUTION = st.lists(STEP, min_size=1, max_size=4)
SEEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ENCODERS = {case[0]: cache(lambda case=case: PrmEncoder(prm_format(case[0]), case[1]())) for case in GOLDENS}


@pytest.mark.parametrize("name", ENCODERS)
@SEEN
@given(question=TEXT, steps=SOLUTION)
def test_there_is_one_position_for_each_step_and_fewer_steps_are_a_beginning(
    name: str, question: str, steps: list[str]
) -> None:
    encoder = ENCODERS[name]()
    encoded = encoder.encode(question, steps)
    assert len(encoded.read) == len(steps)
    assert sorted(set(encoded.read)) == list(encoded.read)
    assert encoded.read[-1] < len(encoded.ids)
    if encoder.tag:
        assert [encoded.ids[at] for at in encoded.read] == [encoder.tag[-1]] * len(steps)
    for count in range(1, len(steps)):
        less = encoder.encode(question, steps[:count])
        assert less.ids == encoded.ids[: len(less.ids)]
        assert less.read == encoded.read[:count]


@pytest.mark.parametrize("is_special", [True, False])
@pytest.mark.parametrize("name", ["openr-data", "openr-qwen", "qwen"])
@SEEN
@given(question=TEXT, steps=SOLUTION)
@example(question="<|step|><|fim_pad|><extra_0>", steps=["a<|step|><|fim_pad|>", "<extra_0><|good|>", "<|fim_prefix|>"])
def test_what_looks_like_a_tag_or_a_label_stays_text(
    name: str, is_special: bool, question: str, steps: list[str]
) -> None:
    encoder = PrmEncoder(prm_format(name), qwen(is_special))
    encoded = encoder.encode(question, steps)
    assert tuple(at for at, item in enumerate(encoded.ids) if item == encoder.tag[0]) == encoded.read
    assert not {encoder.good, encoder.bad} & set(encoded.ids)
    # And it stays all of the text, up to the Unicode form that Qwen's tokenizer writes.
    form, head = encoder.form, qwen(is_special).decode(PrmEncoder(encoder.form, qwen()).encode("¤", ["¤"]).ids)
    opening, answer, _ = head.split("¤")
    texts = [question, *(("" if not place else form.step_joiner) + step for place, step in enumerate(steps))]
    question, *steps = (unicodedata.normalize("NFC", text) for text in texts)
    assert qwen(is_special).decode(encoded.ids) == opening + question + answer + "".join(
        step + form.tag for step in steps
    )


@pytest.mark.parametrize("scheme", ["first", "always", "prepend"])
@SEEN
@given(question=st.text(max_size=8), steps=st.lists(st.text(max_size=8).filter(str.strip), min_size=1, max_size=3))
@example(question="\n", steps=["\n\n a", " +\r\n"])
@example(question="ки", steps=["ки ки", "-", "Step 3: "])
def test_text_that_goes_on_is_tokenised_as_in_its_place(scheme: str, question: str, steps: list[str]) -> None:
    """Math-Shepherd was trained on whole texts: cut at the tags they give the same tokens."""
    tokenizer = piece(scheme)
    encoder = PrmEncoder(prm_format("math-shepherd"), tokenizer)
    lines = [f"Step {place}: {step.removeprefix(f'Step {place}: ')} ки" for place, step in enumerate(steps, 1)]
    whole = f"{question} " + "\n".join(lines)
    assert list(encoder.encode(question, steps).ids) == tokenizer.encode(whole)


def test_a_tag_that_only_the_tokenizer_sees_in_a_text_stays_text() -> None:
    """The Kelvin sign is a K once it is normalised, and an added token is found in normalised text."""
    tokenizer = qwen(False, "<|K|>")
    assert tokenizer.encode("<|\u212a|>") == tokenizer.encode("<|K|>")
    encoder = PrmEncoder(PrmFormat("x", tag="<|K|>", head="scalar"), tokenizer)
    encoded = encoder.encode("<|\u212a|>" * 50, ("<|\u212a|>", "<|K|><|\u212a|>"))
    assert [at for at, item in enumerate(encoded.ids) if item == encoder.tag[0]] == list(encoded.read)
    assert tokenizer.decode(encoded.ids) == "<|K|>" * 50 + "\n\n" + "<|K|>" * 5


def test_only_the_tag_in_a_text_is_taken_apart() -> None:
    encoder = PrmEncoder(prm_format("openr-data"), qwen(False))
    ids = encoder.encode("addaddaddaddaddadd<|step|>", ("add",)).ids
    tokens = [*["add"] * 6, *"<|step|>", "ĊĊ", "add", "<|step|>"]
    assert qwen(False).convert_ids_to_tokens(list(ids)) == tokens


def test_special_tokens_of_the_tokenizer_stay_text_too() -> None:
    for name, tokenizer in (("qwen", qwen()), ("rlhflow", llama()), ("math-shepherd", piece())):
        encoder = PrmEncoder(prm_format(name), tokenizer)
        written = "".join(tokenizer.all_special_tokens) + "<|im_end|><|start_header_id|>"
        plain, found = encoder.encode("Q", ("a", "b")), encoder.encode(f"Q{written}", (f"{written}a", f"b{written}"))
        specials = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        assert [i for i in found.ids if i in specials] == [i for i in plain.ids if i in specials]


def test_a_tag_of_one_character_is_left_in_a_text() -> None:
    tokenizer = qwen(False, "☃")
    encoded = PrmEncoder(PrmFormat("x", tag="☃", head="scalar"), tokenizer).encode("a☃b", ("☃", "c☃"))
    assert tokenizer.decode(encoded.ids) == "a☃b\n\n☃☃c☃☃"
    assert len(encoded.read) == 2


def test_a_tag_that_is_found_only_behind_a_space_stays_text() -> None:
    """An old SentencePiece file normalises the token too: it is found as "▁<|step|>"."""
    tokenizer = piece("prepend", AddedToken("<|step|>", special=False, normalized=True))
    encoder = PrmEncoder(PrmFormat("x", tag="<|step|>", head="scalar"), tokenizer)
    assert encoder.tag == (tokenizer.convert_tokens_to_ids("<|step|>"),)
    assert encoder.encode("<|step|>", ("a <|step|> ",)).ids.count(encoder.tag[0]) == 1


# Errors.


@pytest.mark.parametrize(
    ("form", "tokenizer", "message"),
    [
        (prm_format("openr-data"), llama, r"step tag '<\|step\|>' of the PRM format 'openr-data' .* is 8 of them"),
        (prm_format("qwen"), llama, "step tag '<extra_0>'"),
        (PrmFormat("x", good="good", bad="-"), qwen, "good label 'good' .* has to be one token .* is 4 of them"),
        (PrmFormat("x", good="+", bad="bad"), qwen, "bad label 'bad'"),
        (PrmFormat("x", good="+", bad="<|endoftext|>"), qwen, "bad label .* is unknown to it"),
        (PrmFormat("x", tag="<unk>", tag_tokens="last", head="scalar"), piece, "step tag '<unk>' .* unknown"),
        (PrmFormat("x", tag="a<|endoftext|>", tag_tokens="all", head="scalar"), qwen, "step tag .* unknown"),
        (PrmFormat("x", good="K", bad="\u212a"), qwen, "'K' and '\u212a' are the same token"),
    ],
)
def test_a_tag_or_label_has_to_be_a_token(form: PrmFormat, tokenizer: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrmEncoder(form, tokenizer())


def test_a_token_is_unknown_where_the_vocabulary_has_no_piece_for_it() -> None:
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "+": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = FAST(tokenizer_object=core, unk_token="[UNK]")
    with pytest.raises(InputError, match="bad label '-' .* is unknown to it"):
        PrmEncoder(PrmFormat("x", good="+", bad="-"), tokenizer)
    # Neither a tag nor a step may vanish: this tokenizer drops white space, and a lone joiner with it.
    with pytest.raises(InputError, match="step tag '\\\\n'"):
        PrmEncoder(PrmFormat("x", tag="\n", tag_tokens="last", head="scalar"), tokenizer)


def test_a_step_that_the_tokenizer_leaves_nothing_of_is_empty() -> None:
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    core.normalizer = normalizers.Replace("\u200b", "")
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = PrmEncoder(PrmFormat("x", head="scalar"), FAST(tokenizer_object=core, unk_token="[UNK]"))
    assert encoder.encode("a", ("a", "a\u200b")).read == (1, 2)
    with pytest.raises(InputError, match="Step 2"):
        encoder.encode("a", ("a", "\u200b"))


# Verdicts in words, and reasons.


@pytest.mark.parametrize("name", ["openr-data", "math-shepherd", "rlhflow"])
def test_a_verdict_stands_where_its_step_is_read_and_a_reason_ends(name: str) -> None:
    encoder = ENCODERS[name]()
    encoded = encoder.encode("Q 1?", ("1 + 1 = 2", "So 3."))
    assert encoder.verdict(encoded, 0, True) == (*encoded.ids[: encoded.read[0] + 1], encoder.good)
    assert encoder.verdict(encoded, 1, False) == (*encoded.ids[: encoded.read[1] + 1], encoder.bad)
    if encoder.end is None:
        with pytest.raises(InputError, match="no token for the end of a text"):
            encoder.reason("It is 2.")
        return
    *said, end = encoder.reason(" It is 2. ")
    assert end == encoder.end
    assert encoder.words(said) == encoder.words([*said, end]) == "It is 2."


def test_what_looks_like_a_label_in_a_reason_stays_text() -> None:
    encoder = ENCODERS["openr-data"]()
    said = encoder.reason("not <|good|> but <|bad|>")
    assert {encoder.good, encoder.bad, *encoder.tag}.isdisjoint(said)
    assert encoder.words(said) == "not <|good|> but <|bad|>"


@pytest.mark.parametrize("name", ["openr-data", "math-shepherd", "qwen", "rlhflow"])
def test_a_solution_has_steps_and_each_has_a_text(name: str) -> None:
    encoder = ENCODERS[name]()
    with pytest.raises(InputError, match="without steps has no scores: 'Q 1"):
        encoder.encode("Q 1?", ())
    for empty in ("", " ", "\r\n\t", "\u00a0"):
        with pytest.raises(InputError, match="Step 2 of a solution is empty: 'Q 1"):
            encoder.encode("Q 1?", ("a", empty))
        with pytest.raises(InputError, match="Step 1 of"):
            encoder.encode("Q 1?", (empty, "a"))


@contextmanager
def chat_template(tokenizer: Any, template: str | None) -> Iterator[None]:
    kept = tokenizer.chat_template
    tokenizer.chat_template = template
    try:
        yield
    finally:
        tokenizer.chat_template = kept


ONE_BY_ONE = "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "template", "message"),
    [
        ("qwen", "{{ raise_exception('System role not supported') }}", "format 'qwen': System role not supported$"),
        ("qwen", None, "cannot write the PRM format 'qwen': .*chat_template"),
        ("rlhflow", "{{ messages[0].missing.part }}", "cannot write the PRM format 'rlhflow'"),
        ("qwen", "{{ messages[0].content }}", "does not write every turn once"),
        ("qwen", ONE_BY_ONE + "{{ messages[1].content }}", "does not write every turn once"),
        ("rlhflow", "{{ messages[0].content }}{{ messages[1].content }}", "does not write every turn once"),
        ("rlhflow", ONE_BY_ONE.replace("messages", "messages[::-1]"), "every turn once, in their order"),
        ("rlhflow", ONE_BY_ONE.replace("]{{", "]{{ loop.index }}{{"), "writes later turns otherwise than the first"),
    ],
)
def test_a_chat_template_that_cannot_write_the_format_is_an_error(
    name: str, template: str | None, message: str
) -> None:
    tokenizer = qwen(True, "for its template")
    with chat_template(tokenizer, template), pytest.raises(InputError, match=message):
        PrmEncoder(prm_format(name), tokenizer)


def test_a_chat_template_of_a_sentencepiece_tokenizer_goes_on_behind_the_texts() -> None:
    tokenizer = piece("first", AddedToken("<|step|>", special=True))
    form = PrmFormat("x", template="chat", tag="<|step|>", head="scalar")
    with chat_template(
        tokenizer, "{{ bos_token }}[I] {{ messages[0].content }}[/I]{% if add_generation_prompt %}:{% endif %}"
    ):
        encoder = PrmEncoder(form, tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(list(encoder.encode("Q", ("te",)).ids))
    assert tokens == ["<s>", *"[I]", "▁", *"Q[/I]:", "te", "<|step|>"]


@pytest.mark.parametrize(
    "broken",
    [
        {"good": "+"},
        {"bad": "-"},
        {"head": "lm_pair"},
        {"template": "turns", "head": "classes"},
        {"template": "turns", "good": "+", "bad": "-", "tag": "#"},
        {"template": "turns", "good": "+", "bad": "-", "step_joiner": "\n"},
        {"head": "scalar", "threshold": 1.01},
        {"head": "scalar", "threshold": -0.01},
        {"head": "scalar", "threshold": float("nan")},
        {"head": "scalar", "question_format": "question"},
    ],
)
def test_a_format_that_cannot_be_read_is_not_built(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lm_pair|turns|threshold|question_format"):
        PrmFormat("x", **broken)
    with pytest.raises(UsageError, match="PrmFormat: "):
        format_of("m", {CONFIG_KEY: {"name": "x", **broken}})


# Which format a model has.

OWN = PrmFormat("mine", tag="<|step|>", good="<|good|>", bad="<|bad|>", threshold=0.3, models=("me/mine",))


def test_the_format_of_a_model_is_the_one_asked_for() -> None:
    assert format_of("anything", {}, "trl") is prm_format("trl")
    assert format_of("Qwen/Qwen2.5-Math-PRM-7B", {}, "trl") is prm_format("trl")
    with pytest.raises(UnknownName, match="No PRM format 'qwn'.*Did you mean 'qwen'.*models.toml"):
        format_of("anything", {}, "qwn")
    with pytest.raises(UnknownName):
        prm_format("")


def test_the_format_of_a_model_is_the_one_it_was_trained_with() -> None:
    config = {CONFIG_KEY: {**OWN.as_dict(), "good_id": 7}, "model_type": "qwen2"}
    assert format_of("me/mine", config) == OWN
    # Before the one that lists its name.
    assert format_of("Qwen/Qwen2.5-Math-PRM-7B", config) == OWN


def test_the_format_of_a_known_model_is_the_one_that_lists_it() -> None:
    assert format_of("Qwen/Qwen2.5-Math-PRM-72B", {"model_type": "qwen2"}).name == "qwen"
    assert format_of("peiyi9979/math-shepherd-mistral-7b-prm", {}).name == "math-shepherd"


def test_a_model_without_a_known_format_has_to_be_told_one() -> None:
    for config in ({}, {CONFIG_KEY: None}):
        with pytest.raises(InputError, match="me/mine does not say how.*--format, one of: math-psa, .*trl$"):
            format_of("me/mine", config)


def test_another_format_than_the_trained_one_is_refused() -> None:
    with pytest.raises(
        InputError, match=rf"trained with .*'mine' \({OWN.digest()}\), not 'trl' \(.*Leave --format out"
    ):
        format_of("me/mine", {CONFIG_KEY: OWN.as_dict()}, "trl")


def test_the_trained_format_under_another_name_keeps_its_threshold() -> None:
    asked = prm_format("openr-data")
    kept = {**asked.as_dict(), "name": "mine", "threshold": 0.25, "models": []}
    assert format_of("me/mine", {CONFIG_KEY: kept}, "openr-data") == PrmFormat(**{**kept, "models": ()})


def test_a_damaged_format_in_a_config_is_an_error() -> None:
    with pytest.raises(UnknownName, match="No value for template 'caht'.*Did you mean 'chat'"):
        format_of("m", {CONFIG_KEY: {**OWN.as_dict(), "template": "caht"}})
    with pytest.raises(UsageError, match="Option cut expects bool"):
        format_of("m", {CONFIG_KEY: {**OWN.as_dict(), "cut": "perhaps"}})


@pytest.mark.parametrize("form", [*prm_formats().values(), OWN], ids=lambda form: form.name)
def test_a_format_comes_back_from_a_config_as_it_was(form: PrmFormat) -> None:
    assert format_of("m", json.loads(json.dumps({CONFIG_KEY: form.as_dict()}))) == form


@given(
    form=st.builds(
        PrmFormat,
        name=st.text(min_size=1),
        version=st.integers(1, 9),
        template=st.sampled_from(["plain", "chat"]),
        joiner=st.text(),
        step_prefix=st.text(),
        tag=st.text(),
        head=st.sampled_from(["classes", "scalar"]),
        threshold=st.floats(0, 1),
        cut=st.booleans(),
        models=st.lists(st.text(min_size=1)).map(tuple),
    )
)
def test_any_format_comes_back_from_a_config_as_it_was(form: PrmFormat) -> None:
    assert format_of("m", json.loads(json.dumps({CONFIG_KEY: form.as_dict()}))) == form


def test_the_digest_tells_all_that_shapes_ids_and_scores() -> None:
    same = {"name": "other", "threshold": 0.9, "models": ("a",)}
    other = {
        "version": 2, "template": "chat", "system": "S", "question_format": "{question}?", "joiner": "", "tag": "#",
        "step_prefix": "p", "step_suffix": "s", "step_joiner": "j", "tag_tokens": "all", "head": "scalar",
        "good": "+", "bad": "-", "good_class": 0, "cut": False,
    }  # fmt: skip
    kept = OWN.as_dict() | {"models": ()}
    assert {*same, *other} == set(kept)
    digests = [PrmFormat(**{**kept, key: value}).digest() for key, value in other.items()]
    assert len({OWN.digest(), *digests}) == len(other) + 1
    assert {PrmFormat(**{**kept, key: value}).digest() for key, value in same.items()} == {OWN.digest()}
