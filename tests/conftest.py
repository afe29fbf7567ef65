"""What many tests need: a store, a scripted world of two questions, the shared real data."""

import os
import signal
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings

from openr_data.ids import question_id
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.store import Store
from openr_data.types import Question

ROOT = Path(__file__).parents[1]

_STATUS = pytest.StashKey[int]()

# A busy machine is no failure.
settings.register_profile("openr-data", deadline=None)
settings.load_profile("openr-data")

# A shell starts what runs in its background with Ctrl-C ignored; tests of Ctrl-C, and the processes they start, need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests compute their verdicts and leave the user's cache alone.
os.environ["OPENR_CACHE"] = "off"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread files over processes, and the longest first: a file is a group unless a test names another."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))
    slow = {_group(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _group(item) not in slow)


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker is not None else ""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Out at once, as the console script is left (`openr_data.cli.run`): native threads of libraries that wind down
    beside the interpreter abort it now and then ("terminate called without an active exception"), and a run that
    passed has failed."""
    if hasattr(config, "workerinput") or _STATUS not in config.stash:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash[_STATUS])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("OPENR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no shared data: set OPENR_SHARED_DATA")
    return folder


def a_question(text: str = "What is 1?", answer: str = "1", **more: str) -> Question:
    return Question(question_id(text, answer), text, answer, source="test", **more)


WRONG = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "The answer is \\boxed{9}.")
ASTRAY = f"This goes {'very ' * 40}far astray, to \\boxed{{8}}."
RIGHT = "The answer is \\boxed{1}."


def the_papers_example(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """The example of the OmegaPRM paper: MC .25 at x_1:4, .5 at x_1:6, 0 at x_1:7; the error is step 7.

    The other wrong path is long, so that Q takes the one of the paper first.
    """
    depth, half = len(steps), Fraction(1, 2)
    if steps and "boxed" in steps[-1]:
        return []
    if depth == 5:
        return [Branch(half, WRONG[5]), Branch(half, ASTRAY)]
    if depth == 6:
        return [Branch(half, RIGHT), Branch(half, WRONG[6])]
    return [Branch(Fraction(1), WRONG[depth])]


def four_steps(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """A small random world: each of three steps is right with 3/4; a right path ends at the gold answer."""
    half, quarter = Fraction(3, 4), Fraction(1, 4)
    if steps and "boxed" in steps[-1]:
        return []
    if len(steps) == 3:
        good = all("right" in step for step in steps)
        return [Branch(Fraction(1), RIGHT if good else "So \\boxed{7}.")]
    place = f"{len(steps) + 1} of {question}"
    return [Branch(half, f"right {place}"), Branch(quarter, f"wrong {place}")]


@pytest.fixture
def papers_policy() -> ScriptedPolicy:
    return ScriptedPolicy(the_papers_example, exact=True)


@pytest.fixture
def random_policy() -> ScriptedPolicy:
    return ScriptedPolicy(four_steps)
