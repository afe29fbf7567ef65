"""The backends of reward models that one contract is tested on, the models they score with, and how each is opened.

The models are the shipped policy with a head drawn by chance: untrained, their scores vary. `openai` speaks to the
stand-in server, with the plain forward pass of the model behind it; `openai over vllm` to a real server
(`OPENR_VLLM_PYTHON` names the Python that has vLLM); `vllm` is the engine in this process, where vLLM is installed.
"""

import asyncio
import gc
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from openr_data.inference.rewards.memory import ScoreMemory
from openr_data.inference.rewards.server import RewardServer
from openr_data.inference.rewards.state_memory import StateMemory
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.prm_format import CONFIG_KEY, WRITES, PrmEncoder, PrmFormat, prm_format

from ..policies.contract import QUIET, SERVER_PYTHON
from ..serving.scoring_server import ScoringServer
from ..serving.vllm_process import POLICY, VllmProcess

HEADS = ("lm_pair", "classes", "scalar")
THRESHOLD = 0.4

Case = tuple[str, tuple[str, ...]]
"""A question and the steps of a solution."""

_SERVED = (
    pytest.mark.vllm,
    pytest.mark.skipif(not SERVER_PYTHON, reason="OPENR_VLLM_PYTHON names no Python"),
)
BACKENDS = [
    *(pytest.param(("transformers", head), id=f"transformers {head}") for head in HEADS),
    *(pytest.param(("openai", head), id=f"openai {head}") for head in HEADS),
    *(pytest.param(("openai over vllm", head), id=f"served {head}", marks=_SERVED) for head in HEADS[:2]),
    *(pytest.param(("vllm", head), id=f"vllm {head}", marks=[pytest.mark.vllm, *QUIET]) for head in HEADS),
]


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under the contract, and the folder of its model.

    `under_way` counts the requests it has not ended; `forget` empties its memory of scores. `reads_new_alone` says that
    of a longer solution only what is new is read.
    """

    name: str
    head: str
    reward: Any
    folder: Path
    under_way: Callable[[], int]
    forget: Callable[[], None]
    reads_new_alone: bool = True


@contextmanager
def opened(name: str, head: str, folder: Path) -> Iterator[Subject]:
    """The backend of a name at work on a model with this head, which is written to the folder."""
    model = make_prm(folder / head, head)
    if name == "transformers":
        with closing(TransformersReward(str(model), device="cpu")) as here:
            yield Subject(name, head, here, model, lambda: 0, lambda: _forget_states(here))
    elif name == "openai":
        plain = PlainModel(model)
        with (
            closing(ScoringServer(plain.pair, plain.rows, plain.write, model="prm")) as server,
            closing(RewardServer("prm", base_url=[server.url], tokenizer=str(model))) as reward,
        ):
            yield Subject(
                name, head, reward, model,
                lambda: reward.requests_under_way + server.under_way,
                lambda: _forget(reward),
                reads_new_alone=head == "lm_pair",
            )  # fmt: skip
    elif name == "openai over vllm":
        runner = ("--enable-prompt-tokens-details",) if head == "lm_pair" else ("--runner", "pooling")
        options = ("--max-num-batched-tokens", "16384", "--block-size", "32", *runner)
        process = VllmProcess(SERVER_PYTHON, folder / "server.log", model, "prm", options)
        try:
            process.start()
            with closing(RewardServer("prm", base_url=[process.url], tokenizer=str(model))) as reward:
                yield Subject(
                    name, head, reward, model,
                    lambda: reward.requests_under_way + process.running(),
                    lambda: _forget(reward),
                    reads_new_alone=head == "lm_pair",
                )  # fmt: skip
        finally:
            process.kill()
    else:
        engine = vllm_reward()
        with closing(engine(str(model))) as inside:
            own = inside._own

            def forget() -> None:
                _forget(inside)
                assert own.wait(own.engine.reset_prefix_cache())

            yield Subject(
                name, head, inside, model,
                lambda: own.requests_under_way + own.engine.output_processor.get_num_unfinished_requests(),
                forget,
            )  # fmt: skip
            del own
        gc.collect()


def vllm_reward() -> Any:
    """The class of the backend; the test skips where vLLM is missing."""
    pytest.importorskip("vllm")
    from openr_data.inference.rewards.vllm import VLLMReward

    return VLLMReward


def _forget(reward: Any) -> None:
    reward._steps._memory = ScoreMemory()


def _forget_states(reward: TransformersReward) -> None:
    """Its thread has to be idle."""
    reward._memory = ScoreMemory()
    reward._states = StateMemory(reward._states._most)


def score(reward: Any, *cases: Case) -> list[tuple[float, ...]]:
    """The scores of solutions that are all asked for at once."""

    async def all_at_once() -> Any:
        return await asyncio.gather(*(reward.score(question, steps) for question, steps in cases))

    return [tuple(found) for found in asyncio.run(all_at_once())]


def form_of(head: str) -> PrmFormat:
    """Our format, with another head."""
    form = replace(prm_format("openr-data"), threshold=THRESHOLD)
    return form if head == "lm_pair" else replace(form, name=f"openr-{head}", head=head, good="", bad="")  # type: ignore[arg-type]


def make_prm(folder: Path, head: str) -> Path:
    """The shipped policy as a reward model whose head is drawn by chance, and says how it is read."""
    form = form_of(head)
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    chance = torch.Generator().manual_seed(0)
    if head == "lm_pair":
        model: Any = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
        encoder = PrmEncoder(form, tokenizer)
        drawn = [model.get_input_embeddings().weight[token] for token in (encoder.good, encoder.bad)]
    else:
        labels = 2 if head == "classes" else 1
        model = AutoModelForTokenClassification.from_pretrained(POLICY, num_labels=labels, dtype=torch.float32)
        drawn = [model.score.weight, model.score.bias]
    with torch.no_grad():
        for weight in drawn:
            weight.copy_(torch.randn(weight.shape, generator=chance) * 0.25)
    setattr(model.config, CONFIG_KEY, {**form.as_dict(), **({WRITES: True} if head == "lm_pair" else {})})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_two_layers(folder: Path) -> Path:
    """A classifier with the head of Qwen's reward models: two layers, which transformers has no class for."""
    make_prm(folder, "classes")
    weights = {name: item for name, item in load_file(folder / "model.safetensors").items() if "score" not in name}
    chance = torch.Generator().manual_seed(1)
    size = weights["model.norm.weight"].shape[0]
    for layer, out in ((0, size), (2, 2)):
        weights[f"score.{layer}.weight"] = torch.randn(out, size, generator=chance) * 0.2
        weights[f"score.{layer}.bias"] = torch.randn(out, generator=chance) * 0.2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["Qwen2ForProcessRewardModel"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class PlainModel:
    """One forward pass of the whole for each thing that is asked: nothing batched, nothing remembered."""

    def __init__(self, folder: Path) -> None:
        document = {**json.loads((folder / "config.json").read_text())[CONFIG_KEY], "models": ()}
        form = PrmFormat(**{name: value for name, value in document.items() if name != WRITES})
        self.encoder = PrmEncoder(form, AutoTokenizer.from_pretrained(folder))
        weights = load_file(folder / "model.safetensors")
        bare = {name.removeprefix("model."): item for name, item in weights.items() if name.startswith("model.")}
        self._model: Any = AutoModel.from_pretrained(POLICY, dtype=torch.float32).eval()
        self._model.load_state_dict(bare)
        self._head = {name: item for name, item in weights.items() if name.startswith("score")}
        self._embedding = weights["model.embed_tokens.weight"]
        self._lock = threading.Lock()

    def pair(self, ids: Sequence[int]) -> tuple[float, float]:
        """The log-probabilities of the labels behind some ids."""
        told = (self._embedding @ self._hidden(ids)[-1]).log_softmax(-1)
        return float(told[self.encoder.good]), float(told[self.encoder.bad])

    def write(self, ids: Sequence[int], end: int, most: int) -> tuple[str, bool]:
        """What it writes behind some ids, token by token, and whether it came to its end."""
        written: list[int] = []
        while len(written) < most:
            token = int((self._embedding @ self._hidden([*ids, *written])[-1]).argmax())
            if token == end:
                return self.encoder.words(written), True
            written.append(token)
        return self.encoder.words(written), False

    def rows(self, ids: Sequence[int]) -> list[list[float]]:
        """The logits of the classes at each of them."""
        hidden, head = self._hidden(ids), self._head
        if "score.2.weight" in head:
            hidden = torch.relu(hidden @ head["score.0.weight"].T + head["score.0.bias"])
            found = hidden @ head["score.2.weight"].T + head["score.2.bias"]
        else:
            found = hidden @ head["score.weight"].T + head["score.bias"]
        return [[float(value) for value in row] for row in found]

    def scores(self, question: str, steps: Sequence[str]) -> tuple[float, ...]:
        """Each beginning read by itself."""
        form = self.encoder.form
        found: list[float] = []
        for count in range(1, len(steps) + 1):
            encoded = self.encoder.encode(question, steps[:count])
            ids = encoded.ids[: encoded.read[-1] + 1]
            numbers = torch.tensor(self.pair(ids) if form.head == "lm_pair" else self.rows(ids)[-1])
            if form.head == "scalar":
                found.append(float(torch.sigmoid(numbers[0])))
            else:
                found.append(float(numbers.softmax(-1)[0 if form.head == "lm_pair" else form.good_class]))
        return tuple(found)

    def _hidden(self, ids: Sequence[int]) -> torch.Tensor:
        with self._lock, torch.inference_mode():
            found: torch.Tensor = self._model(torch.tensor([list(ids)])).last_hidden_state[0]
        return found
