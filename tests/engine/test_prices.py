"""Tests the cost of a job: its arithmetic, the choice of a price, and files that are not price lists."""

from pathlib import Path

import pytest

from openr_data.engine import prices
from openr_data.engine.prices import Price, find_price
from openr_data.errors import InputError, OpenRError, UnknownName, UsageError
from openr_data.types import Usage

USAGE = Usage(requests=3, completions=9, prompt_tokens=2_000_000, cached_tokens=500_000, completion_tokens=4_000_000)
PRICED = '[[price]]\nmodel = "m"\ncurrency = "EUR"\nas_of = 2026-11-05\n'


def listed(folder: Path, text: str, name: str = "prices.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rates", "usage", "hours", "cost"),
    [
        ({"prompt": 2.0, "completion": 3.0}, USAGE, 0.0, 4.0 + 12.0),
        ({"prompt": 2.0, "cached": 0.5, "completion": 3.0}, USAGE, 0.0, 3.0 + 0.25 + 12.0),
        ({"prompt": 2.0, "cached": 0.0}, USAGE, 0.0, 3.0),
        ({"prompt": 2.0, "cached": 0.5}, Usage(prompt_tokens=1_000_000), 0.0, 2.0),
        ({"gpu_hour": 2.5}, USAGE, 3.0, 7.5),
        ({"gpu_hour": 2.5, "completion": 1.0}, USAGE, 2.0, 9.0),
        ({}, USAGE, 5.0, 0.0),
        ({"prompt": 2.0, "completion": 3.0, "gpu_hour": 1.0}, Usage(), 0.0, 0.0),
    ],
)
def test_a_cost_is_tokens_and_hours_times_their_price(
    rates: dict[str, float], usage: Usage, hours: float, cost: float
) -> None:
    assert Price("m", "EUR", "2026-11-05", **rates).cost(usage, hours) == pytest.approx(cost)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prompt", "cached", "completion", "gpu_hour"])
def test_no_price_is_negative(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Price("m", "EUR", "2026-11-05", **{name: -0.1})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not negative"):
        find_price("m", [], [listed(tmp_path, f"{PRICED}{name} = -0.1\n")])


def test_the_shipped_catalog_guesses_no_price() -> None:
    assert find_price("Qwen/Qwen2.5-7B-Instruct", [], []) is None
    assert prices._prices("catalog", prices._catalog()) == []


def test_a_price_is_found_by_the_name_of_the_model(tmp_path: Path) -> None:
    file = listed(tmp_path, PRICED + "prompt = 1\n" + PRICED.replace('"m"', '"other"') + "completion = 2.5\n")
    assert find_price("m", [], [file]) == Price("m", "EUR", "2026-11-05", prompt=1.0)
    assert find_price("other", ["http://any:80/v1"], [file]) == Price("other", "EUR", "2026-11-05", completion=2.5)
    assert find_price("M", [], [file]) is None
    assert find_price("m/", [], [file]) is None
    assert find_price("m", [], []) is None


HOSTED = PRICED + 'host = "api.example.com"\ncompletion = 2\n'


@pytest.mark.parametrize(
    ("urls", "is_found"),
    [
        (["https://api.example.com/v1"], True),
        (["https://api.example.com:8443/v1/"], True),
        (["https://API.Example.com/v1"], True),
        (["https://key@api.example.com/v1"], True),
        (["https://api.example.com/v1", "http://api.example.com:8001/v1"], True),
        (["https://api.example.com/v1", "http://localhost:8000/v1"], False),
        (["https://api.example.com.evil.org/v1"], False),
        (["http://example.com/v1"], False),
        (["http://localhost/api.example.com"], False),
        ([], False),
    ],
)
def test_the_price_of_a_host_is_that_of_all_servers_there_and_of_no_other(
    tmp_path: Path, urls: list[str], is_found: bool
) -> None:
    price = find_price("m", urls, [listed(tmp_path, HOSTED)])
    assert (price is not None) == is_found


def test_the_first_price_that_fits_counts(tmp_path: Path) -> None:
    file = listed(tmp_path, HOSTED + PRICED + "completion = 1\n" + PRICED + "completion = 9\n")
    there, elsewhere = (find_price("m", [url], [file]) for url in ("https://api.example.com/v1", "http://here/v1"))
    assert there is not None
    assert elsewhere is not None
    assert (there.completion, elsewhere.completion) == (2.0, 1.0)


def test_the_users_files_come_before_the_catalog_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "catalog_text", lambda name: PRICED + "completion = 3\n")
    one = listed(tmp_path, PRICED + "completion = 1\n", "one.toml")
    two = listed(tmp_path, PRICED + "completion = 2\n", "two.toml")
    other = listed(tmp_path, PRICED.replace('"m"', '"x"'), "other.toml")
    for files, expected in (([one, two], 1.0), ([two, one], 2.0), ([other, two], 2.0), ([other], 3.0), ([], 3.0)):
        price = find_price("m", [], files)
        assert price is not None
        assert price.completion == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price]\n", "is not TOML"),
        ("[prices]\nm = 1\n", "is not a list of prices"),
        ("price = 3\n", "is not a list of prices"),
        ('currency = "EUR"\n' + PRICED, "is not a list of prices"),
        ('[price]\nmodel = "m"\n', "is not a list of prices"),
        ('[[price]]\nmodel = "m"\n', "a price lacks currency, as_of"),
        ("[[price]]\n", "a price lacks model, currency, as_of"),
        (PRICED.replace('"m"', '""'), "a price lacks model"),
        (PRICED + "prompts = 1\n", "No option of Price 'prompts'.*Did you mean 'prompt'"),
        (PRICED + 'prompt = "much"\n', "prompt expects float"),
        (PRICED + "prompt = true\n", "prompt expects float"),
        (PRICED + "prompt = [1]\n", "prompt expects float"),
        (PRICED + "host = 3\n", "host expects str"),
        (PRICED.replace('"m"', "3"), "model expects str"),
        ("\x00", "is not TOML"),
    ],
)
def test_a_file_that_is_no_list_of_prices_is_told_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((InputError, UsageError), match=message) as raised:
        find_price("m", [], [listed(tmp_path, text)])
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize("text", ["price = [1]\n", 'price = ["m"]\n', "price = [[]]\n"])
def test_a_list_of_something_else_is_no_list_of_prices(tmp_path: Path, text: str) -> None:
    with pytest.raises(OpenRError, match="is not a list of prices"):
        find_price("m", [], [listed(tmp_path, text)])


def test_a_file_that_is_not_there_or_no_text_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("none.toml", "binary", "."):
        with pytest.raises(InputError, match="Cannot read"):
            find_price("m", [], [tmp_path / name])


def test_an_unknown_key_is_not_passed_over_although_the_model_is_another(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        find_price("another", [], [listed(tmp_path, PRICED + "promt = 1\n")])


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_price_is_a_number(tmp_path: Path, number: str) -> None:
    with pytest.raises(OpenRError):
        find_price("m", [], [listed(tmp_path, PRICED + f"prompt = {number}\n")])
