"""Shows labelled steps in the terminal with shapes and numbers as well as colour, so that no reader depends on colour.

▌● 0.62 (5/8)   a good step, measured
▌○ 0.00 (0/8)   a bad step            ← first error
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..reasons import ReasonedStep, reasons_of
from ..types import Provenance

if TYPE_CHECKING:
    from rich.text import Text

GOOD, NEUTRAL, BAD, NONE = "●", "◐", "○", "·"
LEGEND = f"{GOOD} good  {NEUTRAL} neutral  {BAD} bad  {NONE} not judged   value (correct/rollouts)"

EXPLAINED_LEGEND = (
    f"{GOOD} called right  {BAD} called wrong   P(correct) | "
    f"label: {GOOD} good  {NEUTRAL} neutral  {BAD} bad  {NONE} not judged"
)

_SHAPES = {1: GOOD, 0: NEUTRAL, -1: BAD, None: NONE}
_COLOURS = {1: "blue", 0: "cyan", -1: "dark_orange", None: "bright_black"}


def record_lines(record: Mapping[str, Any]) -> Iterator["Text"]:
    """Render a row of `records`: header, question, answers, and one or more lines per step."""
    from rich.text import Text

    outcome = {True: "right", False: "wrong", None: "unknown"}[record["outcome"]]
    head = Text(f"{record['solution_id'][:10]}  ", style="bold")
    place = " · ".join(
        part
        for part in (
            record["source"],
            record["split"],
            record["level"] and f"level {record['level']}",
            record["method"],
            record["completer"],
        )
        if part
    )
    head.append(place, style="not bold")
    yield head
    yield Text(record["question"], style="italic")
    answer = f"gold {record['answer']} · this solution {record['final_answer']} ({outcome})"
    yield Text(answer, style="bright_black")
    reasons = _reasons(record)
    for index, step in enumerate(record["steps"]):
        yield from step_lines(record, index, step)
        if reasons and reasons[index]:
            yield from _reason_lines(reasons[index], record["label"][index])


def explained_lines(record: Mapping[str, Any], verdicts: Sequence[ReasonedStep]) -> Iterator["Text"]:
    """Render a row of `records` with a reward model's view of its steps: score, label and step, the reason below."""
    from rich.text import Text

    yield Text(f"{record['solution_id'][:10]}  ", style="bold").append(record["method"], style="not bold")
    yield Text(record["question"], style="italic")
    for index, (step, reasoned) in enumerate(zip(record["steps"], verdicts, strict=True)):
        verdict, label = 1 if reasoned.is_good else -1, record["label"][index]
        lines = step.split("\n")
        first = Text(" ▌", style=_COLOURS[verdict])
        first.append(f"{_SHAPES[verdict]} ", style=f"bold {_COLOURS[verdict]}")
        first.append(f"{reasoned.score:.2f} | {_SHAPES[label]}".ljust(16))
        first.append(lines[0])
        if record["first_error"] == index:
            first.append("   ← first error", style=f"bold {_COLOURS[-1]}")
        yield first
        yield from (Text(" ▌", style=_COLOURS[verdict]).append(" " * 18 + line) for line in lines[1:])
        if reasoned.reason:
            yield from _reason_lines(reasoned.reason, verdict)


def _reasons(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the reasons of a row, or none if they are malformed; `train` reports that error."""
    try:
        return reasons_of(record.get("label_metadata") or "{}", len(record["steps"]))
    except ValueError:
        return ()


def _reason_lines(reason: str, label: int | None) -> Iterator["Text"]:
    from rich.text import Text

    for line in reason.split("\n"):
        yield Text(" ▌", style=_COLOURS[label]).append(" " * 18 + line, style="bright_black")


def step_lines(record: Mapping[str, Any], index: int, step: str) -> Iterator["Text"]:
    """Render one step: bar, shape, value, counts, text, and a mark at the first error."""
    from rich.text import Text

    label = record["label"][index]
    colour = _COLOURS[label]
    lines = step.split("\n")
    first = Text(" ▌", style=colour)
    first.append(f"{_SHAPES[label]} ", style=f"bold {colour}")
    first.append(_evidence(record, index).ljust(16))
    first.append(lines[0], style="bright_black" if label is None else "")
    if record["first_error"] == index:
        first.append("   ← first error", style=f"bold {colour}")
    yield first
    for line in lines[1:]:
        more = Text(" ▌", style=colour)
        more.append(" " * 18 + line)
        yield more


def _evidence(record: Mapping[str, Any], index: int) -> str:
    value, rollouts = record["value"][index], record["n_rollouts"][index]
    if rollouts:
        return f"{value:.2f} ({record['n_correct'][index]}/{rollouts})"
    provenance = Provenance(record["provenance"][index])
    if provenance is Provenance.INFERRED and value is None:
        return ""
    return provenance.name.lower() if value is None else f"{value:.2f} {provenance.name.lower()}"


def status_lines(status: Mapping[str, Any], title: str) -> list[str]:
    """Render the figures of a running job on four lines, for a terminal or a log."""
    eta = status["eta_seconds"]
    share = (status["done"] + status["failed"]) / status["total"] if status["total"] else 1.0
    return [
        f"{title}  {share:.0%}  {status['done'] + status['failed']:,}/{status['total']:,} questions"
        + (f"  eta {duration(eta)}" if eta is not None and share < 1 else ""),
        f"  now {status['tokens_per_second_now']:,.0f} tok/s · mean {status['tokens_per_second']:,.0f} tok/s · "
        f"in flight {status['in_flight']:,} · journal hits {status['journal_hits']:,} · "
        f"retries {status.get('retries', 0):,}",
        _outcomes(status),
        f"  paid {spent(status)}",
    ]


def _outcomes(status: Mapping[str, Any]) -> str:
    """Render the counts of questions in the words of the kind of the job."""
    if status.get("kind") == "search":
        solved = status["labelled"] + status.get("answered", 0)
        return (
            f"  answered {solved:,} · without a solution {status['done'] - solved:,} · failed {status['failed']:,} · "
            f"completions {status['calls']:,}"
        )
    per_error = status["calls_per_located"]
    return (
        f"  labelled {status['labelled']:,} · screened out {status['done'] - status['labelled']:,} · "
        f"failed {status['failed']:,} · first errors {status['located']:,}"
        + (f" · {per_error:.1f} calls per first error" if per_error else "")
    )


def spent(status: Mapping[str, Any]) -> str:
    """Render tokens, GPU-hours and money; an unknown price is shown as unknown."""
    cached, reused = status.get("cached_tokens"), status.get("reused")
    cost, limit, hours = status.get("cost"), status.get("max_cost"), status.get("gpu_hours")
    parts = [
        f"{status.get('prompt_tokens', 0):,} prompt tokens" + (f" ({cached:,} cached)" if cached is not None else ""),
        f"{status.get('completion_tokens', 0):,} completion tokens",
    ]
    parts += [f"{reused:,} rollouts reused"] if reused else []
    if status.get("reward_calls"):
        parts.append(f"{status['reward_tokens']:,} reward tokens ({status['reward_tokens_read']:,} read)")
    parts += [f"{hours:.2f} GPU-hours"] if hours is not None else []
    parts.append("price unknown" if cost is None else f"{money(cost, status.get('currency', ''))}")
    if cost is not None and limit is not None:
        parts[-1] += f" of at most {money(limit, status.get('currency', ''))}"
    return " · ".join(parts)


def money(amount: float, currency: str) -> str:
    """Format an amount of money; small amounts keep three significant digits."""
    return f"{amount:,.2f} {currency}" if amount >= 1 or not amount else f"{amount:.3g} {currency}"


def duration(seconds: float) -> str:
    """Format a time span."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
