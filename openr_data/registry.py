"""Maps names to `"module:attribute"`: the only way from the core to a leaf. A module is imported on first use.

To add a labeler, a backend, a search, a source or a grader, write one file and one line here. Other packages
register through the entry-point group `openr_data` (name `KIND.NAME`), which is read only for a name not listed here.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any, Final, Literal

from .errors import MissingDependency, UnknownName

Kind = Literal["labeler", "policy", "token-policy", "source", "grader", "format", "trainer", "reward", "search"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a named thing is defined, what it is, and the extra that installs what it imports."""

    target: str
    summary: str
    extra: str = ""


LABELERS: Final[Mapping[str, Entry]] = {
    "omegaprm": Entry(
        "openr_data.labelers.omegaprm:OmegaPRM",
        "binary search for the first error over a growing tree (arXiv 2406.06592)",
    ),
    "adaptive": Entry(
        "openr_data.labelers.adaptive:Adaptive",
        "the first error to a requested confidence, at the lowest token cost (ours)",
    ),
    "math-shepherd": Entry(
        "openr_data.labelers.math_shepherd:MathShepherd",
        "k rollouts from every prefix (arXiv 2312.08935)",
    ),
    "mips": Entry(
        "openr_data.labelers.mips:MiPS",
        "the share of correct rollouts among k from every prefix (arXiv 2402.02658)",
    ),
    "judge": Entry("openr_data.labelers.judge:Judge", "a language model names the first wrong step (arXiv 2412.06559)"),
}
POLICIES: Final[Mapping[str, Entry]] = {
    "transformers": Entry(
        "openr_data.inference.policies.transformers:TransformersPolicy",
        "any causal LM in this process, CPU or GPU",
        extra="models",
    ),
    "openai": Entry(
        "openr_data.inference.policies.server:OpenAIServer",
        "running servers that speak the OpenAI API: vllm serve, SGLang, llama.cpp, hosted ones",
    ),
    "vllm": Entry(
        "openr_data.inference.policies.vllm:VLLMEngine",
        "vLLM in this process, on the GPUs of this machine",
        extra="vllm",
    ),
}
TOKEN_POLICIES: Final[Mapping[str, Entry]] = {
    "transformers": Entry(
        "openr_data.inference.policies.transformers_tokens:TransformersTokens",
        "token ids in and out of a model in this process, for training; new weights in place",
        extra="models",
    ),
    "vllm": Entry(
        "openr_data.inference.policies.vllm_tokens:VLLMTokens",
        "token ids in and out of vLLM in this process, for training; new weights in place",
        extra="vllm",
    ),
}
SOURCES: Final[Mapping[str, Entry]] = {
    "arithmetic": Entry(
        "openr_data.catalogs.arithmetic.source:ArithmeticSource",
        "generated word problems with an oracle for every step",
    ),
}
GRADERS: Final[Mapping[str, Entry]] = {
    "math": Entry(
        "openr_data.grading.math.grader:MathGrader", "exact values of numbers, expressions and sets; sympy beyond"
    ),
    "string": Entry("openr_data.grading.math.text_graders:StringGrader", "equal LaTeX text"),
    "numeric": Entry("openr_data.grading.math.text_graders:NumericGrader", "equal rational numbers"),
    "choice": Entry("openr_data.grading.math.text_graders:ChoiceGrader", "the letter of an option"),
    "openr": Entry(
        "openr_data.grading.math.text_graders:OpenRGrader",
        "OpenR's rule, for comparison: the text contains the gold answer",
    ),
}
FORMATS: Final[Mapping[str, Entry]] = {
    "math-shepherd": Entry(
        "openr_data.exchange.formats.math_shepherd:MathShepherdFormat", "`input`, `label` with ки, `task`"
    ),
    "prm800k": Entry("openr_data.exchange.formats.prm800k:Prm800kFormat", "PRM800K, phases 1 and 2, alternatives kept"),
    "math-aps": Entry(
        "openr_data.exchange.formats.math_aps:MathApsFormat", "MATH-APS, flat: every prefix with its MC value"
    ),
    "math-aps-tree": Entry("openr_data.exchange.formats.math_aps_tree:MathApsTreeFormat", "MATH-APS as a tree"),
    "processbench": Entry(
        "openr_data.exchange.formats.processbench:ProcessBenchFormat", "the first wrong step, labelled by people"
    ),
    "prmbench": Entry("openr_data.exchange.formats.prmbench:PrmBenchFormat", "processes with inserted errors"),
    "trl": Entry(
        "openr_data.exchange.formats.trl:TrlFormat", "stepwise supervision: `prompt`, `completions`, `labels`"
    ),
    "rlhflow": Entry(
        "openr_data.exchange.formats.rlhflow:RlhflowFormat", "conversations that answer + or - to each step"
    ),
    "qwen": Entry(
        "openr_data.exchange.formats.qwen:QwenFormat", "messages with <extra_0> after each step, and `labels`"
    ),
    "openrlhf": Entry("openr_data.exchange.formats.openrlhf:OpenRlhfFormat", "a text with placeholders, and `value`"),
    "verl": Entry("openr_data.exchange.formats.verl:VerlFormat", "questions for verl's reinforcement learning"),
    "records": Entry("openr_data.exchange.formats.records:RecordsFormat", "every field of a record: lossless"),
    "questions": Entry(
        "openr_data.exchange.formats.questions:QuestionsFormat",
        "`problem` or `question`, and `answer`: MATH, GSM8K and the like",
    ),
}
"""In the order in which a file is tried: a format that asks for more fields comes first."""

TRAINERS: Final[Mapping[str, Entry]] = {
    "prm": Entry(
        "openr_data.training.prm.run:PrmRun",
        "a process reward model from the step labels of a snapshot",
        extra="models",
    ),
}
REWARDS: Final[Mapping[str, Entry]] = {
    "transformers": Entry(
        "openr_data.inference.rewards.transformers:TransformersReward",
        "a process reward model in this process, CPU or GPU; reads only new steps",
        extra="models",
    ),
    "vllm": Entry(
        "openr_data.inference.rewards.vllm:VLLMReward",
        "vLLM in this process, on the GPUs of this machine",
        extra="vllm",
    ),
    "openai": Entry(
        "openr_data.inference.rewards.server:RewardServer",
        "running vLLM servers",
        extra="models",
    ),
}
SEARCHES: Final[Mapping[str, Entry]] = {
    "best-of-n": Entry(
        "openr_data.inference.searches.best_of_n:BestOfN", "n solutions at once; an evaluation chooses among them"
    ),
}

TABLES: Final[Mapping[Kind, Mapping[str, Entry]]] = {
    "labeler": LABELERS,
    "policy": POLICIES,
    "token-policy": TOKEN_POLICIES,
    "source": SOURCES,
    "grader": GRADERS,
    "format": FORMATS,
    "trainer": TRAINERS,
    "reward": REWARDS,
    "search": SEARCHES,
}


def check(kind: Kind, name: str) -> None:
    """Raise `UnknownName` for a name that is not registered; imports nothing."""
    if name not in TABLES[kind] and not entry_points(group="openr_data", name=f"{kind}.{name}"):
        raise UnknownName(kind, name, TABLES[kind])


def load(kind: Kind, name: str) -> Any:
    """Import the thing called `name`.

    Raises `UnknownName`, or `MissingDependency` if a package that it imports is not installed.
    """
    check(kind, name)
    entry = TABLES[kind].get(name)
    if entry is None:
        (point, *_) = entry_points(group="openr_data", name=f"{kind}.{name}")
        return point.load()
    module, _, attribute = entry.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openr_data"):
            raise
        extra = f"openr-data[{entry.extra}]" if entry.extra else str(error.name)
        raise MissingDependency(
            f"The {kind} {name!r} needs the package {error.name!r}, which is not installed. "
            f"Install it with: pip install '{extra}'"
        ) from error


def catalog_text(path: str) -> str:
    """The text of a file of the catalogs, for example `models.toml`."""
    return files("openr_data.catalogs").joinpath(path).read_text(encoding="utf-8")


def catalog_entry(kind: str, folder: str, name: str, suffix: str) -> str:
    """The text of the file `folder/name` of the catalogs. Raises `UnknownName`, which lists all of this `kind`."""
    names = catalog_names(folder, suffix)
    if name not in names:
        raise UnknownName(kind, name, names)
    return catalog_text(f"{folder}/{name}{suffix}")


def catalog_names(folder: str, suffix: str) -> list[str]:
    """The names of the files of a catalog folder, without their suffix, sorted."""
    entries = files("openr_data.catalogs").joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix))
