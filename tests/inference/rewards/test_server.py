"""The openai backend of reward models against a real HTTP server that lacks what it needs and fails as servers do."""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from openr_data.errors import InputError, PolicyError, PolicyLost
from openr_data.inference.rewards.server import RewardServer
from openr_data.inference.serving import http_client
from openr_data.prm_format import CONFIG_KEY, PrmEncoder

from ..serving.scoring_server import ScoringServer, scoring, softmax
from ..serving.vllm_process import POLICY
from .contract import Case, form_of, score

# About who comes first and who waits: one after another, never beside each other.
pytestmark = pytest.mark.xdist_group("servers")

CASE: Case = ("How many pens?", ("Tom has 2*7=14 pens.", "She has 3+4=7 pens.", "The answer is 21."))


def pair(ids: Sequence[int]) -> tuple[float, float]:
    """Log-probabilities that depend on all ids; the labels have little of the whole."""
    good, bad = hashlib.blake2b(str(list(ids)).encode(), digest_size=2).digest()
    return -6 - good / 64, -6 - bad / 64


def rows(ids: Sequence[int]) -> list[tuple[float, float]]:
    return [pair(ids[: end + 1]) for end in range(len(ids))]


def expected(encoder: PrmEncoder, case: Case = CASE) -> tuple[float, ...]:
    encoded = encoder.encode(*case)
    found = [pair(encoded.ids[: at + 1]) for at in encoded.read]
    if encoder.form.head == "lm_pair":
        return tuple(1 / (1 + math.exp(bad - good)) for good, bad in found)
    return tuple(softmax(item)[1] for item in found)


def close(values: Sequence[float]) -> Any:
    return pytest.approx(values, abs=1e-9)


def many(count: int) -> list[Case]:
    return [(f"Question {number}?", CASE[1][: 1 + number % 3]) for number in range(count)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What lies beside the weights of two reward models, by their head."""
    made = {head: tmp_path_factory.mktemp(head) for head in ("lm_pair", "classes")}
    for head, folder in made.items():
        config = AutoConfig.from_pretrained(POLICY)
        if head == "classes":
            config.architectures = ["Qwen2ForTokenClassification"]
        setattr(config, CONFIG_KEY, form_of(head).as_dict())
        config.save_pretrained(folder)
        AutoTokenizer.from_pretrained(POLICY).save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def encoders() -> dict[str, PrmEncoder]:
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    return {head: PrmEncoder(form_of(head), tokenizer) for head in ("lm_pair", "classes")}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "REST", 0.02)
    monkeypatch.setattr(http_client, "LONGEST_REST", 0.1)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[ScoringServer]:
    with scoring(pair, rows, model="prm") as made:
        yield made


Open = Callable[..., RewardServer]


@pytest.fixture
def opening(folders: dict[str, Path]) -> Iterator[Open]:
    """Opens reward models over servers, and closes them."""
    made: list[RewardServer] = []

    def opened(*servers: ScoringServer, head: str = "lm_pair", **options: Any) -> RewardServer:
        urls = [server.url for server in servers]
        made.append(RewardServer("prm", base_url=urls, **{"tokenizer": str(folders[head]), **options}))
        return made[-1]

    yield opened
    for item in made:
        item.close()


def test_each_step_is_one_request_that_ends_where_it_is_read(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder]
) -> None:
    encoder = encoders["lm_pair"]
    encoded = encoder.encode(*CASE)
    (found,) = score(opening(server), CASE)
    assert found == close(expected(encoder))
    assert server.paths == ["/v1/completions"] * 3
    labels = [encoder.good, encoder.bad]
    assert sorted(server.requests, key=lambda body: len(body["prompt"])) == [
        {
            "model": "prm",
            "prompt": list(encoded.ids[: at + 1]),
            "max_tokens": 1,
            "temperature": 0,
            "top_p": 1,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "allowed_token_ids": labels,
            "logprobs": 2,
            "logprob_token_ids": labels,
            "return_tokens_as_token_ids": True,
        }
        for at in encoded.read
    ]


def test_a_classifier_is_asked_for_the_whole_solution_beside_the_api_of_openai(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder]
) -> None:
    encoded = encoders["classes"].encode(*CASE)
    (found,) = score(opening(server, head="classes"), CASE)
    assert found == close(expected(encoders["classes"]))
    assert server.paths == ["/pooling"]
    assert server.requests == [
        {
            "model": "prm",
            "input": list(encoded.ids[: encoded.read[-1] + 1]),
            "task": "token_classify",
            "use_activation": True,
            "encoding_format": "float",
        }
    ]


@pytest.mark.parametrize("head", ["lm_pair", "classes"])
def test_only_steps_without_a_score_are_asked_for(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder], head: str
) -> None:
    reward = opening(server, head=head)
    question, steps = CASE
    score(reward, (question, steps[:2]))
    before = len(server.requests)
    (found,) = score(reward, CASE)
    assert found == close(expected(encoders[head]))
    assert len(server.requests) == before + 1
    assert score(reward, (question, steps[:1])) == [found[:1]]
    assert len(server.requests) == before + 1


def test_without_reuse_everything_is_asked_for_again(server: ScoringServer, opening: Open) -> None:
    reward = opening(server, reuse=False)
    assert score(reward, CASE) == score(reward, CASE)
    assert len(server.requests) == 6


def test_tokens_are_those_that_the_server_did_not_have(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder]
) -> None:
    size = len(encoders["lm_pair"].encode(*CASE).ids)
    reward = opening(server)
    for count in (1, 2, 3):
        score(reward, (CASE[0], CASE[1][:count]))
    lengths = [at + 1 for at in encoders["lm_pair"].encode(*CASE).read]
    assert reward.tokens_asked == sum(lengths)
    # All of the prompt but whole blocks of 16 tokens that the step before had brought.
    assert reward.tokens_read == lengths[0] + sum(new - old // 16 * 16 for old, new in pairwise(lengths))
    server.tells_cached = False
    blind = opening(server)
    score(blind, CASE)
    assert (blind.tokens_asked, blind.tokens_read) == (size, sum(lengths))


def test_a_server_that_gives_a_row_for_each_step_is_read_too(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder]
) -> None:
    places = encoders["classes"].encode(*CASE).read

    def only_steps(reply: dict[str, Any]) -> None:
        told = reply["data"][0]
        told["data"] = [told["data"][at] for at in places]

    server.change = only_steps
    assert score(opening(server, head="classes"), CASE)[0] == close(expected(encoders["classes"]))


def cut(reply: dict[str, Any]) -> None:
    del reply["data"][0]["data"][0]


def flat(reply: dict[str, Any]) -> None:
    reply["data"][0]["data"] = [0.5] * 50


def logits(reply: dict[str, Any]) -> None:
    reply["data"][0]["data"] = [[2.0, -1.0] for _ in reply["data"][0]["data"]]


def small_logits(reply: dict[str, Any]) -> None:
    reply["data"][0]["data"] = [[0.3, 0.4] for _ in reply["data"][0]["data"]]


def no_number(reply: dict[str, Any]) -> None:
    reply["data"][0]["data"] = [[float("nan"), 0.5] for _ in reply["data"][0]["data"]]


def one_class(reply: dict[str, Any]) -> None:
    reply["data"][0]["data"] = [[0.5] for _ in reply["data"][0]["data"]]


def nothing(reply: dict[str, Any]) -> None:
    reply["data"] = []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cut, r"rows of the shape \[\d+, 2\] for \d+ tokens and 3 steps"),
        (flat, r"rows of the shape \[50\]"),
        (nothing, r"rows of the shape \[0\]"),
        (logits, "numbers that are not probabilities"),
        (small_logits, "numbers that are not probabilities"),
        (no_number, "numbers that are not probabilities"),
        (one_class, "gives 1 numbers a token, and its PRM format reads class 1 of at least 2"),
    ],
)
def test_rows_that_cannot_be_the_classes_of_each_token_are_refused(
    server: ScoringServer, opening: Open, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    server.change = change
    with pytest.raises(PolicyError, match=told):
        score(opening(server, head="classes"), CASE)


@pytest.mark.parametrize(
    ("flaw", "told"),
    [
        ("tells nothing", "returns no log-probabilities"),
        ("writes tokens", "names tokens not by their ids but as 'good': it is not a vLLM"),
        ("ignores the labels", "ignores `allowed_token_ids`: it answers token_id:99999, expected 4 or 5"),
        (
            "tells one label",
            r"does not return the log-probability of token_id:[45].*--logprobs-mode processed_logprobs",
        ),
        ("masks a label", r"does not return the log-probability of token_id:[45]"),
    ],
)
def test_a_server_that_cannot_tell_both_labels_is_lost_in_a_sentence(
    server: ScoringServer, opening: Open, flaw: str, told: str
) -> None:
    server.flaw = flaw
    with pytest.raises(PolicyLost, match=told):
        score(opening(server), CASE)


def test_a_server_that_is_down_or_serves_something_else_is_told_at_once(
    server: ScoringServer, folders: dict[str, Path]
) -> None:
    folder = str(folders["lm_pair"])
    with pytest.raises(InputError, match="No server of the OpenAI kind answers at http://127.0.0.1:9/v1"):
        RewardServer("prm", base_url=["http://127.0.0.1:9/v1"], tokenizer=folder)
    with pytest.raises(InputError, match="does not serve 'other' but prm. Name that as the model"):
        RewardServer("other", base_url=[server.url], tokenizer=folder)
    with pytest.raises(InputError, match="is not the address of a server"):
        RewardServer("prm", base_url=["localhost:8000"], tokenizer=folder)


def test_a_model_is_known_by_the_folder_that_the_server_loaded(
    folders: dict[str, Path], encoders: dict[str, PrmEncoder]
) -> None:
    folder = str(folders["lm_pair"])
    with scoring(pair, rows, model="anything") as server:
        server.card = {"root": folder}
        with closing(RewardServer(folder, base_url=[server.url])) as reward:
            assert score(reward, CASE)[0] == close(expected(encoders["lm_pair"]))
            assert reward.name.startswith(f"{folder}@served.")
        assert server.requests[0]["model"] == "anything"


def test_the_tokenizer_has_to_be_found_here(
    server: ScoringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"Cannot load the reward model .* with --tokenizer \(--reward-tokenizer\)\.$"):
        RewardServer(str(tmp_path), base_url=[server.url])


def test_a_policy_that_says_nothing_of_steps_needs_a_format(server: ScoringServer, opening: Open) -> None:
    with pytest.raises(InputError, match="does not say how it scores steps"):
        opening(server, tokenizer=str(POLICY))
    assert len(score(opening(server, tokenizer=str(POLICY), format="openr-data"), CASE)[0]) == 3


def test_a_checkpoint_with_another_head_than_its_format_is_refused(
    server: ScoringServer, opening: Open, folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folders["classes"] / name).read_bytes())
    config = json.loads((folders["classes"] / "config.json").read_text())
    config["architectures"] = ["Qwen2ForCausalLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="is a Qwen2ForCausalLM, and the PRM format 'openr-classes' reads the head"):
        opening(server, tokenizer=str(tmp_path))


@pytest.mark.parametrize(("head", "room"), [("lm_pair", 63), ("classes", 64)])
def test_a_solution_longer_than_the_server_takes_is_not_sent(
    server: ScoringServer, opening: Open, head: str, room: int
) -> None:
    server.card = {"max_model_len": 64}
    reward = opening(server, head=head)
    with pytest.raises(InputError, match=rf"A solution of \d+ tokens does not fit the {room} positions of prm@served"):
        score(reward, (CASE[0], CASE[1] * 3))
    assert server.requests == []
    assert len(score(reward, CASE)[0]) == 3


@pytest.mark.parametrize("fault", ["429", "503", "500", "cut", "reset", "slow", "abort"])
def test_a_fault_costs_time_and_nothing_else(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder], fault: str
) -> None:
    reward = opening(server)
    server.faults = ["", fault, "", fault, fault, "", fault]
    cases = many(20)
    assert score(reward, *cases) == [close(expected(encoders["lm_pair"], case)) for case in cases]
    assert len(server.requests) == sum(len(steps) for _, steps in cases)
    assert reward.retries == (0 if fault == "slow" else 4)


def test_a_solution_that_the_server_refuses_fails_alone(server: ScoringServer, opening: Open) -> None:
    reward = opening(server)
    server.faults = ["400"]

    async def both() -> list[Any]:
        first = await asyncio.gather(reward.score(CASE[0], CASE[1][:1]), return_exceptions=True)
        return [*first, await reward.score(*CASE)]

    refused, good = asyncio.run(both())
    assert type(refused) is PolicyError
    assert "refuses a request (400): not this" in str(refused)
    assert len(good) == 3


def test_when_one_step_fails_the_others_are_let_go(server: ScoringServer, opening: Open) -> None:
    reward = opening(server)
    server.seconds = 60.0
    # The last to arrive: the others are under way by then, however slow the machine is.
    server.faults = ["", "", "400"]

    async def fails() -> None:
        with pytest.raises(PolicyError, match="refuses a request"):
            await reward.score(*CASE)
        while server.under_way:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(fails(), 30.0))
    assert reward.requests_under_way == 0
    assert server.cancelled == 2


def test_a_server_without_pooling_is_told_how_to_be_started(server: ScoringServer, opening: Open) -> None:
    server.faults = ["404"]
    with pytest.raises(PolicyLost, match=r"404.*vllm serve prm --runner pooling"):
        score(opening(server, head="classes"), CASE)


def test_servers_that_stay_silent_are_lost_after_the_patience(opening: Open) -> None:
    server = ScoringServer(pair, rows, model="prm")
    reward = opening(server, patience=0.3)
    server.close()
    with pytest.raises(PolicyLost, match="No server has answered for"):
        score(reward, CASE)


def test_a_score_that_nobody_waits_for_frees_the_server(server: ScoringServer, opening: Open) -> None:
    reward = opening(server)
    server.seconds = 60.0

    async def give_up() -> None:
        task = asyncio.ensure_future(reward.score(*CASE))
        while server.under_way < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.under_way:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(give_up(), 30.0))
    assert reward.requests_under_way == 0
    assert server.cancelled == 3


def test_the_requests_of_one_question_go_to_one_server(server: ScoringServer, opening: Open) -> None:
    with scoring(pair, rows, model="prm") as other:
        reward = opening(server, other)
        questions = [f"Question {number}?" for number in range(24)]
        for question in questions:
            for count in (1, 2, 3):
                score(reward, (question, CASE[1][:count]))
        tokenizer = AutoTokenizer.from_pretrained(POLICY)
        told = [
            [tokenizer.decode(body["prompt"]).split("\n\n")[0] for body in item.requests] for item in (server, other)
        ]
    assert sum(map(len, told)) == 72
    assert min(map(len, told)) >= 12
    # Every question is at home at one of them.
    assert not set(told[0]) & set(told[1])


def test_a_busy_server_shares_what_is_near_to_it(server: ScoringServer, opening: Open) -> None:
    with scoring(pair, rows, model="prm") as other:
        server.seconds = other.seconds = 0.2
        score(opening(server, other), *((CASE[0], (f"Step {number}.",)) for number in range(40)))
        assert min(len(server.requests), len(other.requests)) >= 10


def test_one_server_takes_over_for_another(
    server: ScoringServer, opening: Open, encoders: dict[str, PrmEncoder]
) -> None:
    other = ScoringServer(pair, rows, model="prm")
    reward = opening(server, other)
    other.close()
    cases = many(30)
    assert score(reward, *cases) == [close(expected(encoders["lm_pair"], case)) for case in cases]


def test_no_more_requests_are_under_way_than_allowed(server: ScoringServer, opening: Open) -> None:
    server.seconds = 0.02
    score(opening(server, max_requests=5), *many(20))
    assert server.most_under_way == 5


def test_the_key_is_read_from_the_environment(
    server: ScoringServer, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "secret"
    with pytest.raises(InputError, match="says 401"):
        opening(server)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert len(score(opening(server), CASE)[0]) == 3
