"""The other graders, and graders from a user's own module."""

import ast
import asyncio
from pathlib import Path

import pytest

import openr_data.grading
from openr_data.errors import UnknownName, UsageError
from openr_data.grading import load_grader
from openr_data.grading.graders import check_grader
from openr_data.registry import GRADERS
from openr_data.types import Grade, Verdict

C, I, U = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN  # noqa: E741


@pytest.mark.parametrize(
    ("name", "answer", "gold", "verdict"),
    [
        ("string", r"\dfrac{1}{2}", r"\frac{1}{2}", C),
        ("string", "0.5", r"\frac{1}{2}", I),
        ("numeric", "0.5", r"\frac{1}{2}", C),
        ("numeric", "5 cm", "5", C),
        ("numeric", "x", "5", U),
        ("choice", "(b)", "B", C),
        ("choice", r"\textbf{(B)} 12", "B", C),
        ("choice", "C. because", "B", I),
        ("choice", "because", "B", U),
        ("openr", "12", "2", C),
        ("openr", "2", "12", I),
        ("openr", "2", "", U),
        ("math", "12", "2", I),
    ],
)
def test_a_grader_follows_its_rule(name: str, answer: str, gold: str, verdict: Verdict) -> None:
    assert asyncio.run(load_grader(name).grade(answer, gold)).verdict is verdict


def test_every_grader_has_its_version_in_its_name() -> None:
    for name in GRADERS:
        assert load_grader(name).name.startswith(f"{name}/")


MODULE = """
from openr_data.types import Grade, Verdict

def same_length(answer, gold):
    return len(answer) == len(gold)

async def later(answer, gold):
    return Verdict.CORRECT if answer == gold else None

def picky(answer, gold):
    return Grade(Verdict.UNKNOWN, "too vague") if len(answer) < 3 else "yes"

def broken(answer, gold):
    raise RuntimeError("no compiler")

number = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"graders_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_of_ones_own_is_a_grader(own_module: str) -> None:
    def grade(function: str, answer: str, gold: str) -> Grade:
        return asyncio.run(load_grader(f"python:{own_module}:{function}").grade(answer, gold))

    assert grade("same_length", "ab", "cd").verdict is C
    assert grade("same_length", "ab", "c").verdict is I
    assert grade("later", "ab", "ab").verdict is C
    assert grade("later", "ab", "c") == Grade(U, "the grader does not know")
    assert grade("picky", "ab", "c") == Grade(U, "too vague")
    assert grade("picky", "abc", "c") == Grade(U, "the grader returned str, not a bool")
    assert grade("broken", "ab", "c") == Grade(U, "RuntimeError: no compiler")


def test_a_changed_function_is_another_grader(own_module: str, tmp_path: Path) -> None:
    assert load_grader(f"python:{own_module}:later").name != load_grader(f"python:{own_module}:picky").name
    assert load_grader(f"python:{own_module}:later").name.startswith(f"python:{own_module}:later/")


@pytest.mark.parametrize("target", ["python:no_such_module:f", "python:json:nothing", "python:json", "python::f"])
def test_what_is_no_function_is_told(target: str) -> None:
    with pytest.raises(UsageError, match="python:MODULE:FUNCTION"):
        check_grader(target)


def test_a_module_that_cannot_be_imported_is_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_written_graders.py").write_text("def f(answer, gold) return")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="SyntaxError"):
        check_grader("python:half_written_graders:f")


def test_a_number_is_no_grader(own_module: str) -> None:
    with pytest.raises(UsageError, match=r"is not a function of \(answer, gold\) and not a class"):
        check_grader(f"python:{own_module}:number")


def test_an_unknown_grader_is_told_with_the_near_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'math'"):
        check_grader("maths")


def test_a_class_without_grade_and_one_that_cannot_be_made_are_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="not a class with the method `grade`"):
        check_grader("python:fractions:Fraction")
    with pytest.raises(UsageError, match="cannot be made without arguments: TypeError"):
        check_grader("python:openr_data.types:Question")


CONTRACT = sorted((Path(openr_data.grading.__file__).parent).glob("*.py"))


@pytest.mark.parametrize("path", CONTRACT, ids=lambda path: path.name)
def test_a_file_of_the_contract_imports_no_domain(path: Path) -> None:
    domains = {folder.name for folder in path.parent.iterdir() if (folder / "__init__.py").is_file()}
    assert "math" in domains
    tree = ast.parse(path.read_text())
    # The front door may name what it loads on demand to a type checker.
    typed_alone = {
        id(node)
        for branch in ast.walk(tree)
        if path.name == "__init__.py" and isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and id(node) not in typed_alone
    }
    assert not imported & domains
