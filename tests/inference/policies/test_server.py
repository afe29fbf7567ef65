"""The openai backend against a real HTTP server that fails in every way servers do."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError, PolicyError, PolicyLost
from openr_data.ids import derive_seed
from openr_data.inference.policies import server as openai_server
from openr_data.inference.policies.server import OpenAIServer
from openr_data.inference.serving import http_client
from openr_data.inference.serving.http_client import FIRST_LIMIT
from openr_data.models import ModelEntry
from openr_data.types import Completion, Prefix, Sampling

from ..serving.completions_server import CompletionsServer, serving

# About who comes first and who waits: one after another, never beside each other.
pytestmark = pytest.mark.xdist_group("servers")

SAMPLING = Sampling(max_tokens=20, seed=7)
PREFIX = Prefix("How many?", ("Two and two.",))


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is prompted with plain text; servers rest for a moment only."""
    monkeypatch.setattr(openai_server, "model_entry", lambda name: ModelEntry(name, template="plain", stop=("END",)))
    monkeypatch.setattr(http_client, "REST", 0.02)
    monkeypatch.setattr(http_client, "LONGEST_REST", 0.1)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with serving() as made:
        yield made


def policy(*servers: CompletionsServer, **options: Any) -> OpenAIServer:
    return OpenAIServer("m", base_url=[server.url for server in servers], **options)


def ask(policy: OpenAIServer, *requests: tuple[Prefix, int, Sampling]) -> list[tuple[Completion, ...]]:
    async def all_at_once() -> Any:
        return await asyncio.gather(*(policy.sample(*request) for request in requests))

    try:
        return [tuple(reply) for reply in asyncio.run(all_at_once())]
    finally:
        policy.close()


def many(count: int) -> list[tuple[Prefix, int, Sampling]]:
    return [(Prefix(f"question {number}"), 2, replace(SAMPLING, seed=number)) for number in range(count)]


def test_a_prefix_is_one_request_of_n_samples(server: CompletionsServer) -> None:
    (reply,) = ask(policy(server), (PREFIX, 3, SAMPLING))
    assert [item.text for item in reply] == [choice["text"] for choice in server.answer(server.requests[0])["choices"]][
        ::-1
    ]
    assert len(server.requests) == 1
    assert server.requests[0] == {
        "model": "m",
        "prompt": "How many?\n\nTwo and two.\n\n",
        "n": 3,
        "max_tokens": 20,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": derive_seed(7) % 2**31,
        "logprobs": 1,
        "stop": ["END"],
    }
    assert [item.n_tokens for item in reply] == [len(item.text.split()) for item in reply]
    assert [item.logprob for item in reply] == [-0.5 * item.n_tokens for item in reply]
    assert {item.prompt_tokens for item in reply} == {5}


@pytest.mark.parametrize(("owner", "expected"), [("vllm", -1), ("sglang", -1), ("somebody", None)])
def test_a_server_that_samples_by_the_defaults_of_the_model_is_told_not_to(owner: str, expected: int | None) -> None:
    with serving(owner=owner) as server:
        ask(policy(server), (PREFIX, 2, SAMPLING))
        assert server.requests[0].get("top_k") == expected
        assert ("repetition_penalty" in server.requests[0]) == (expected is not None)


def test_greedy_samples_are_asked_for_once(server: CompletionsServer) -> None:
    (reply,) = ask(policy(server), (PREFIX, 3, replace(SAMPLING, temperature=0.0)))
    assert len(reply) == 3
    assert len({item.text for item in reply}) == 1
    assert [body["n"] for body in server.requests] == [1]


def test_the_finish_reason_is_the_server_s(server: CompletionsServer) -> None:
    (cut,), (whole,) = ask(
        policy(server), (PREFIX, 1, replace(SAMPLING, max_tokens=2)), (PREFIX, 1, replace(SAMPLING, max_tokens=50))
    )
    assert (cut.ended, cut.finish_reason, cut.n_tokens) == ("length", "length", 2)
    assert (whole.ended, whole.finish_reason) == ("end", "stop")


@pytest.mark.parametrize(
    ("report", "ended"),
    [
        ({"finish_reason": "stop", "stop_reason": None}, "end"),
        ({"finish_reason": "stop", "stop_reason": 151643}, "end"),
        ({"finish_reason": "stop", "stop_reason": "\n\n"}, "stop"),
        # A stop string of the model's entry is the model's own end.
        ({"finish_reason": "stop", "stop_reason": "END"}, "end"),
        ({"finish_reason": "stop", "matched_stop": "\n\n"}, "stop"),
        ({"finish_reason": "stop", "matched_stop": 151643}, "end"),
        ({"finish_reason": "eos_token"}, "end"),
        ({"finish_reason": "stop_sequence"}, "stop"),
        ({"finish_reason": "length", "stop_reason": None}, "length"),
        # A server that reports nothing of the kind: the request had a stop string, so this may be one.
        ({"finish_reason": "stop"}, "stop"),
    ],
)
def test_what_ended_a_completion_is_what_the_server_reports(
    server: CompletionsServer, report: dict[str, Any], ended: str
) -> None:
    server.reports = report
    ((reply,),) = ask(policy(server), (PREFIX, 1, replace(SAMPLING, stop=("\n\n",))))
    assert reply.ended == ended


def test_without_a_report_the_end_of_a_request_without_stop_strings_is_the_model_s_own(
    server: CompletionsServer,
) -> None:
    server.reports = {"finish_reason": "stop"}
    (plain,), (own,) = ask(policy(server), (PREFIX, 1, SAMPLING), (PREFIX, 1, replace(SAMPLING, stop=("END",))))
    assert (plain.ended, own.ended) == ("end", "end")


def test_a_log_probability_is_told_only_of_the_distribution_sampled_from(server: CompletionsServer) -> None:
    (reply,) = ask(policy(server), (PREFIX, 1, replace(SAMPLING, temperature=0.7)))
    assert reply[0].logprob is None


@pytest.mark.parametrize("options", [{"has_logprobs": False}, {"most_n": 1}], ids=["no logprobs", "no n"])
def test_a_server_that_lacks_logprobs_or_n_is_asked_for_each_sample(options: dict[str, Any]) -> None:
    with serving(**options) as server:
        first, second = ask(policy(server), (PREFIX, 4, SAMPLING), (Prefix("other"), 4, SAMPLING))
        bodies = server.requests
    assert len(first) == len(second) == 4
    assert all(item.n_tokens == len(item.text.split()) for item in (*first, *second))
    singles = [body for body in bodies if body["n"] == 1]
    assert len(singles) == 8
    assert len({body["seed"] for body in singles if body["prompt"].startswith("other")}) == 4


@pytest.mark.parametrize("fault", ["429", "503", "500", "502", "cut", "reset", "slow", "abort"])
def test_a_fault_costs_time_and_nothing_else(server: CompletionsServer, fault: str) -> None:
    quiet = ask(policy(server), *many(20))
    server.faults = ["", fault, "", fault, fault, "", fault]
    server.requests.clear()
    made = policy(server)
    assert ask(made, *many(20)) == quiet
    assert len(server.requests) == 20
    assert made.retries == (0 if fault == "slow" else 4)


def test_a_server_that_dies_and_comes_back_costs_time_and_nothing_else() -> None:
    first = CompletionsServer()
    first.seconds = 0.02
    made = policy(first, max_requests=4)
    reborn: list[CompletionsServer] = []

    def kill_and_restart() -> None:
        # Once it has answered some, however long the client takes to begin.
        end = time.monotonic() + 60.0
        while len(first.requests) < 4 and time.monotonic() < end:
            time.sleep(0.005)
        first.close()
        time.sleep(0.3)
        reborn.append(CompletionsServer(port=first.port))

    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    replies = ask(made, *many(100))
    killer.join()
    reborn[0].close()
    with serving() as quiet:
        assert replies == ask(policy(quiet), *many(100))
    assert len(first.requests) >= 4
    assert reborn[0].requests
    assert made.retries


def test_servers_that_stay_silent_are_lost_after_the_patience(server: CompletionsServer) -> None:
    made = policy(server, patience=0.3)
    server.faults = ["reset"] * 1_000
    with pytest.raises(PolicyLost, match="No server has answered for"):
        ask(made, (PREFIX, 1, SAMPLING))


def test_a_request_that_the_server_refuses_fails_alone(server: CompletionsServer) -> None:
    server.faults = ["400"]

    async def both(made: OpenAIServer) -> list[Any]:
        first = await asyncio.gather(made.sample(PREFIX, 1, SAMPLING), return_exceptions=True)
        return [*first, await made.sample(PREFIX, 1, SAMPLING)]

    made = policy(server)
    refused, good = asyncio.run(both(made))
    made.close()
    assert type(refused) is PolicyError
    assert "refuses a request (400): not this" in str(refused)
    assert len(good) == 1


def test_an_error_of_the_server_at_every_try_is_told(server: CompletionsServer) -> None:
    server.faults = ["500"] * 5
    with pytest.raises(PolicyError, match="failed 5 times to answer one request: says 500: not this"):
        ask(policy(server), (PREFIX, 1, SAMPLING))


def test_a_request_that_cuts_its_connection_each_time_fails_alone(server: CompletionsServer) -> None:
    server.poison = "poison"
    made = policy(server)

    async def beside_others() -> list[Any]:
        bad = asyncio.ensure_future(made.sample(Prefix("poison"), 1, SAMPLING))
        while not bad.done():
            await asyncio.gather(*(made.sample(*request) for request in many(4)))
        return await asyncio.gather(bad, return_exceptions=True)

    (refused,) = asyncio.run(asyncio.wait_for(beside_others(), 20.0))
    made.close()
    assert type(refused) is PolicyError
    assert "failed 5 times to answer one request" in str(refused)


def test_requests_that_fail_together_are_one_failure_of_the_server() -> None:
    server = http_client._Server("u", most=9)
    pause = server.rest(100.0)
    assert pause <= http_client.REST
    for _ in range(50):
        server.rest(100.0)
    assert (server.failures, server.rests_until) == (1, 100.0 + pause)
    server.rest(100.0, seconds=7.0)
    assert server.rests_until == 107.0
    server.rest(108.0)
    assert server.failures == 2


def test_servers_that_name_the_model_differently_are_told_apart(server: CompletionsServer) -> None:
    with serving(model="/models/m") as other, pytest.raises(InputError, match="under several names"):
        OpenAIServer("/models/m", base_url=[server.url, other.url])


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_no_way_in_ends_the_run(server: CompletionsServer, status: str) -> None:
    server.faults = [status]
    with pytest.raises(PolicyLost, match=status):
        ask(policy(server), (PREFIX, 1, SAMPLING))


def test_no_more_requests_are_under_way_than_allowed(server: CompletionsServer) -> None:
    server.seconds = 0.02
    ask(policy(server, max_requests=5), *many(40))
    assert server.most_under_way == 5


def test_a_server_that_complains_gets_fewer_requests_at_a_time(server: CompletionsServer) -> None:
    # Slow enough that more than ten are there at once before the first is answered.
    server.seconds, server.most_at_once = 0.2, 10
    made = policy(server)
    replies = ask(made, *many(200))
    assert len(replies) == len(server.requests) == 200
    assert made._servers._servers[0].limit < http_client.FIRST_LIMIT


def test_a_busy_server_that_is_well_gets_more_requests_at_a_time(server: CompletionsServer) -> None:
    server.seconds = 0.5
    made = policy(server)
    ask(made, *many(120))
    assert made._servers._servers[0].limit > http_client.FIRST_LIMIT
    assert server.most_under_way > http_client.FIRST_LIMIT


def test_each_request_goes_to_the_least_loaded_server(server: CompletionsServer) -> None:
    with serving() as other:
        server.seconds = other.seconds = 0.5
        ask(policy(server, other), *many(20))
        assert (len(server.requests), len(other.requests)) == (10, 10)


def test_a_request_that_never_arrives_at_a_dead_server_has_not_failed(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A dead server that is tried again and again, while the other one answers.
    monkeypatch.setattr(http_client, "REST", 0.001)
    monkeypatch.setattr(http_client, "LONGEST_REST", 0.001)
    server.seconds = 0.05
    with serving() as other:
        made = policy(server, other, max_requests=2)
    assert len(ask(made, *many(40))) == len(server.requests) == 40
    assert made.retries > 2 * http_client.TRIES


def test_two_servers_share_the_work_and_one_takes_over_for_the_other(server: CompletionsServer) -> None:
    with serving() as other:
        server.seconds = other.seconds = 0.02
        ask(policy(server, other, max_requests=8), *many(100))
        assert min(len(server.requests), len(other.requests)) > 30
        made = policy(server, other)
    answered = len(server.requests)
    assert len(ask(made, *many(60))) == 60
    assert len(server.requests) == answered + 60


def test_a_cancelled_request_frees_the_server(server: CompletionsServer) -> None:
    server.seconds = 60.0
    made = policy(server)

    async def give_up() -> None:
        task = asyncio.ensure_future(made.sample(PREFIX, 1, SAMPLING))
        while not server.under_way:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.under_way:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(give_up(), 30.0))
    assert made.requests_under_way == 0
    made.close()
    assert server.cancelled == 1


def test_a_closed_policy_answers_no_more(server: CompletionsServer) -> None:
    made = policy(server)
    made.close()
    made.close()
    with pytest.raises(PolicyLost, match="closed"):
        asyncio.run(made.sample(PREFIX, 1, SAMPLING))


def test_the_key_is_read_from_the_environment(server: CompletionsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "secret"
    with pytest.raises(InputError, match="says 401"):
        policy(server)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert len(ask(policy(server), (PREFIX, 1, SAMPLING))) == 1


def test_what_is_wrong_with_a_server_is_said_at_once(server: CompletionsServer) -> None:
    with pytest.raises(InputError, match="does not serve 'other' but m"):
        OpenAIServer("other", base_url=[server.url])
    with pytest.raises(InputError, match="models says 404"):
        OpenAIServer("m", base_url=[server.url.removesuffix("/v1")])
    with pytest.raises(InputError, match="is not the address of a server"):
        OpenAIServer("m", base_url=["localhost:8000"])
    with pytest.raises(InputError, match="No server of the OpenAI kind answers at http://127.0.0.1:9/v1"):
        OpenAIServer("m", base_url=["http://127.0.0.1:9/v1"])


def test_a_folder_that_a_server_loaded_is_known_by_its_root(server: CompletionsServer) -> None:
    made = OpenAIServer("/models/m", base_url=[server.url])
    (reply,) = ask(made, (PREFIX, 1, SAMPLING))
    assert server.requests[0]["model"] == "m"
    assert made.name.startswith("/models/m@served.")
    assert len(reply) == 1


def test_a_chat_template_is_written_here_and_sent_as_token_ids(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    folder = Path(__file__).parents[3] / "catalogs" / "arithmetic" / "policy"
    entry = ModelEntry(str(folder), template="chat")
    monkeypatch.setattr(openai_server, "model_entry", lambda name: entry)
    made = policy(server)
    ask(made, (PREFIX, 1, SAMPLING))
    ids = server.requests[0]["prompt"]
    assert made._tokenizer.decode(ids).endswith("Two and two.\n\n")
    assert ids[-1] != made._tokenizer.eos_token_id


def test_a_chat_template_that_cannot_write_the_prompt_is_told_before_anything_is_asked(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    folder = Path(__file__).parents[3] / "catalogs" / "arithmetic" / "policy"
    monkeypatch.setattr(openai_server, "model_entry", lambda name: ModelEntry(str(folder), template="chat"))

    class Refuses:
        chat_template = "yes"

        def apply_chat_template(self, conversation: Any, **options: Any) -> str:
            raise ValueError("roles must alternate")

    monkeypatch.setattr(openai_server, "_tokenizer", lambda path, revision: Refuses())
    with pytest.raises(InputError, match=r"cannot write the prompt \(roles must alternate\)"):
        policy(server)
    assert server.requests == []


def test_what_a_server_had_cached_is_told(server: CompletionsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    (untold,) = ask(policy(server), (PREFIX, 1, SAMPLING))
    assert untold[0].cached_tokens is None
    answer = server.answer

    def telling(body: dict[str, Any]) -> dict[str, Any]:
        reply = answer(body)
        reply["usage"]["prompt_tokens_details"] = {"cached_tokens": 3}
        return reply

    monkeypatch.setattr(server, "answer", telling)
    (told,) = ask(policy(server), (PREFIX, 2, SAMPLING))
    assert [item.cached_tokens for item in told] == [3, 3]


def test_the_places_are_those_of_all_servers_together(server: CompletionsServer) -> None:
    with serving() as other:
        made = policy(server, other, max_requests=5)
        assert made.places == 10
        made.close()
    made = policy(server)
    before = made.places
    # It grows while it is busy and well: so a scheduler sends more.
    ask(made, *many(200))
    assert before == FIRST_LIMIT < made.places
