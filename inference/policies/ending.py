"""What ended a sample: the model's own end, or a stop string of the request.

The stop strings of a model's entry (`models.toml`) belong to the model: they end its solution as its end token does.
"""

from collections.abc import Sequence

from openr_data.types import Ended


def ended_by(stop: str, own: Sequence[str]) -> Ended:
    """Why a sample ended that a stop string ended; `own` are those of the model's entry."""
    return "end" if stop in own else "stop"


def cut_at_stop(text: str, stops: Sequence[str], own: Sequence[str]) -> tuple[str, Ended] | None:
    """The text before the stop string that is complete first, and why it ended; None where it holds none of them.

    Of two that end at the same place the first one of the list counts, as in vLLM.
    """
    ends = [(start + len(stop), index) for index, stop in enumerate(stops) if (start := text.find(stop)) >= 0]
    if not ends:
        return None
    end, index = min(ends)
    stop = stops[index]
    return text[: end - len(stop)], ended_by(stop, own)
