"""Tests the command `eval search` with the shipped policy and a reward model with random weights."""

import json
import socket
from pathlib import Path

import pytest

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.models import model_entry
from openr_data.overlap import SEEN_FILE, fingerprint
from openr_data.prm_format import CONFIG_KEY, prm_format
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

SEARCH = ("eval", "search", "--limit", "4", "-o", "n=4")


@pytest.fixture
def reward(tmp_path: Path) -> str:
    """The policy read as a reward model: its scores mean nothing, and they differ."""
    folder = tmp_path / "reward"
    folder.mkdir()
    for path in Path(model_entry("arithmetic").path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config[CONFIG_KEY] = prm_format("openr-data").as_dict()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_search_is_told_by_every_way_to_choose_and_asks_nothing_twice(run: Run, reward: str) -> None:
    first = run(*SEARCH, "--reward", reward, "--json")
    assert first.code == 0
    document = json.loads(first.out)
    assert (document["method"], document["policy"], document["into"]) == (
        "best-of-n",
        "arithmetic",
        "arithmetic-search",
    )
    (found,) = document["rewards"]
    rules = {row["rule"]: row for row in found["rules"]}
    assert {"oracle", "random", "majority", "min-vote", "last-max", "product-vote", "mean-max"} <= set(rules)
    assert rules["oracle"]["accuracy"] >= rules["min-vote"]["accuracy"]
    assert found["k"] == [1, 2, 3, 4]
    assert found["questions"] == found["candidates"] == 4
    assert found["curves"]["random"] == pytest.approx([rules["random"]["accuracy"]] * 4)
    counts = json.loads(run("show", "arithmetic-search", "--json").out)
    assert counts["scores"] > 0
    assert counts["search_nodes"] == 0
    again = run(*SEARCH, "--reward", reward, "--json")
    assert "are there already" in again.err
    assert "read 0 tokens" in again.err
    assert json.loads(again.out) == document


def test_questions_that_a_reward_model_has_seen_are_told(run: Run, reward: str) -> None:
    first = next(ArithmeticSource().read())
    Path(reward, SEEN_FILE).write_text(fingerprint(first.question) + "\n")
    answer = run(*SEARCH, "--reward", reward)
    assert answer.code == 0
    assert "1 of the 4 questions of arithmetic are among those that the model was trained on" in answer.err
    # The shipped one was trained on others.
    assert "flatter" not in run(*SEARCH, "--reward", "arithmetic-reward").err


def test_people_read_a_table_and_see_a_plot(run: Run, reward: str) -> None:
    answer = run(*SEARCH, "--reward", reward, "--plot", "search.svg")
    assert answer.code == 0
    header, *rows = [line.split("\t") for line in answer.out.splitlines()]
    assert header == ["choice", "reward", "k=1", "k=2", "k=4", "95 % at N", "over majority"]
    assert rows[0][0] == "oracle"
    assert {row[1] for row in rows} == {"", reward}
    assert "Drawn to search.svg." in answer.err
    assert "majority" in Path("search.svg").read_text()


def test_without_a_reward_model_the_majority_is_told(run: Run) -> None:
    answer = run(*SEARCH, "--jsonl")
    assert answer.code == 0
    assert [json.loads(line)["rule"] for line in answer.out.splitlines()] == ["majority", "oracle", "random"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "best-of"), "Did you mean 'best-of-n'?"),
        (("--reward-backend", "vlm"), "Did you mean 'vllm'?"),
        (("-o", "m=4"), "No option of best-of-n 'm'"),
        (("-o", "n=0"), "n is at least 1"),
        (("--plot", "search.pdf"), "is not a plot file"),
        (
            ("--reward", "arithmetic-reward", "--reward-url", "http://localhost:9/v1"),
            "The backend 'transformers' has no option --reward-url. See: openr-data eval search --help",
        ),
        (
            ("--reward", "arithmetic-reward", "--reward-backend", "openai", "--reward-device", "cpu"),
            "The backend 'openai' has no option --reward-device.",
        ),
        (("--reward-format", "openr-data"), "--reward-format is an option of a reward model, and none is named."),
    ],
)
def test_mistakes_are_one_sentence_before_any_work(run: Run, words: tuple[str, ...], message: str) -> None:
    answer = run("eval", "search", "--limit", "2", *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_folder_that_is_no_reward_model_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = run(*SEARCH, "--reward", "./empty")
    assert answer.code == 2
    assert "Cannot load the reward model './empty'" in answer.err
    policy = run(*SEARCH, "--reward", "arithmetic")
    assert policy.code == 2
    assert "does not say how it scores steps" in policy.err


def test_a_reward_model_whose_server_is_dead_is_told_before_anything_is_sampled(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    answer = run(*SEARCH, "--reward", "arithmetic-reward", "--reward-backend", "openai", "--reward-url", url)
    assert (answer.code, answer.out) == (2, "")
    assert f"No server of the OpenAI kind answers at {url}" in answer.err
    assert run("ls", "--json").out.strip() in ("", "[]")
