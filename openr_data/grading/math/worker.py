"""The worker of the symbolic path: `python -m openr_data.grading.math.worker FD`, started by `fork_server.py`.

The server imports sympy once; a worker compares one pair after another (`symbolic.py`).
"""

from ...types import Grade, Verdict
from ..forked_worker import main


def judge(answer: str, gold: str) -> Grade:
    """The grade by computer algebra; may raise whatever a parser of LaTeX raises."""
    from . import symbolic

    verdict, reason = symbolic.judge(answer, gold)
    return Grade(Verdict(verdict), reason)


def warm_up() -> None:
    """Import sympy and let it fill its caches."""
    from . import symbolic

    symbolic.warm_up()


if __name__ == "__main__":
    main(judge, warm_up, failure="the symbolic path failed")
