"""Every command is a skin over one public, typed function, which a Python user can call instead."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, get_type_hints

import click
import pytest

from openr_data.cli import cli

TWINS: Final = {
    "label": "openr_data.jobs.start:run_plan",
    "jobs ls": "openr_data.jobs.job:Job.all",
    "jobs status": "openr_data.jobs.job:Job.find",
    "jobs resume": "openr_data.jobs.plan:resumed",
    "import": "openr_data.exchange.import_file:import_file",
    "export": "openr_data.exchange.export_file:export_file",
    "ls": "openr_data.store.store:Store.summaries",
    "show": "openr_data.store.view:View.label_sets",
    "log": "openr_data.store.dataset:Dataset.snapshots",
    "diff": "openr_data.store.diff:diff",
    "tag": "openr_data.store.dataset:Dataset.tag",
    "rollback": "openr_data.jobs.upkeep:roll_back",
    "sql": "openr_data.store.view:View.sql",
    "view": "openr_data.store.view:View.find_records",
    "publish": "openr_data.huggingface.publish:publish",
    "pull": "openr_data.huggingface.pull:pull",
    "verify": "openr_data.store.verify:verify",
    "compact": "openr_data.store.maintenance:compact",
    "gc": "openr_data.jobs.upkeep:collect_garbage",
    "grade": "openr_data.grading.by_hand:grade_text",
    "regrade": "openr_data.derivation.regrade:regrade",
    "disagreements": "openr_data.derivation.regrade:disagreements",
    "compare": "openr_data.evaluation.labels:compare",
    "consensus": "openr_data.derivation.agreed:keep_agreed",
    "explain": "openr_data.evaluation.explanations:explain",
    "train prm": "openr_data.jobs.trainer:run_training",
    "eval prm": "openr_data.evaluation.prm:evaluate_prm",
    "eval search": "openr_data.evaluation.search:evaluate_search",
    "catalog ls": "openr_data.inventory:inventory",
    "catalog show": "openr_data.inventory:built_in",
    "doctor": "openr_data.diagnosis:diagnose",
}
"""Command -> the function that does its work."""

WAITING: Final = ("label", "import", "publish", "pull", "grade", "explain", "eval prm", "eval search")
"""Commands that wait for a model or a server: their function has an awaitable form, NAME_async."""


def commands(command: click.Command, name: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, by its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from commands(inner, (*name, word))
    else:
        yield " ".join(name), command


COMMANDS: Final = dict(commands(cli))


def function_of(target: str) -> Callable[..., Any]:
    module, _, path = target.partition(":")
    value: Any = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value  # type: ignore[no-any-return]


def test_every_command_has_its_function() -> None:
    assert COMMANDS.keys() == TWINS.keys()


@pytest.mark.parametrize("command", TWINS)
def test_the_function_is_public_typed_and_documented(command: str) -> None:
    function = function_of(TWINS[command])
    assert not any(word.startswith("_") for word in TWINS[command].replace(":", ".").split("."))
    assert function.__doc__
    hints = get_type_hints(function, vars(inspect.getmodule(function)))
    parameters = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    assert hints.keys() == {*parameters, "return"}
    assert Any not in hints.values()


@pytest.mark.parametrize("command", TWINS)
def test_the_command_calls_the_function(command: str) -> None:
    callback = inspect.unwrap(COMMANDS[command].callback)  # type: ignore[arg-type]
    name = TWINS[command].rpartition(":")[2].rpartition(".")[2]
    module = inspect.getmodule(callback)
    assert module is not None
    # A command may call it through a function in its own file, for example to show progress.
    assert f"{name}(" in inspect.getsource(module)


@pytest.mark.parametrize("command", WAITING)
def test_a_function_that_waits_for_a_server_can_be_awaited(command: str) -> None:
    plain, awaitable = function_of(TWINS[command]), function_of(f"{TWINS[command]}_async")
    assert inspect.iscoroutinefunction(awaitable)
    assert awaitable.__doc__
    assert get_type_hints(awaitable)["return"] == get_type_hints(plain)["return"]
    assert inspect.signature(awaitable).parameters.keys() <= inspect.signature(plain).parameters.keys()
