"""Measures grading: tolerance to formatting, distinction of answers, speed, and resistance to hostile input.

    python benchmarks/grading.py [--data ../shared/data] [--pairs pairs.jsonl] [--seconds 3]

It has five parts, printed and written to benchmarks/results/grading.json:

    variants   every MATH-500 answer against itself and its formatting variants: wrong verdicts, and pairs per second of
               the fast path on one core with every pair new to it; Math-Verify on a sample of the same pairs in the
               same run
    others     every answer against every other: a list of the pairs that are graded correct
    pairs      agreement with (gold, answer, expected) triples, for example those of `capture_pairs.py`, and a list of
               every disagreement
    job        the share of a labeling job that grading takes
    hostile    inputs designed to hang or kill a grader: the longest answer, the memory of the workers, and the waiting
               time of harmless pairs
"""

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openr_data.grading import MathGrader, compare_exactly, extract
from openr_data.grading.cache import GradeCache
from openr_data.grading.math.equivalence import _read
from openr_data.grading.math.parsing.tokens import tokens
from openr_data.grading.workers import WorkerLimits
from openr_data.types import Verdict

RESULTS = Path(__file__).parent / "results"
INTEGER = re.compile(r"-?\d+")
FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")


def variants(gold: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) for every way to write the answer that applies to it."""
    yield "itself", gold
    yield "dollars", f"${gold}$"
    yield "parentheses", f"\\({gold}\\)"
    yield "display", f"\\[ {gold} \\]"
    yield "outer space", f"  {gold} "
    yield "full stop", f"{gold}."
    yield "displaystyle", f"\\displaystyle {gold}"
    yield "line break", f"{gold}\n"
    yield "bold", f"**{gold}**"
    if not gold.startswith("\\text") and "=" not in gold and "," not in gold and "\\in" not in gold:
        yield "left side", f"x = {gold}"
        yield "function", f"f(x) = {gold}"
    if "\\frac" in gold:
        yield "dfrac", gold.replace("\\frac", "\\dfrac")
        yield "tfrac", gold.replace("\\frac", "\\tfrac")
    if "(" in gold and "\\left" not in gold and "\\text" not in gold:
        yield "left right", gold.replace("(", "\\left(").replace(")", "\\right)")
    if "\\left" in gold:
        yield "no left right", gold.replace("\\left", "").replace("\\right", "")
    if "," in gold and not re.search(r"\d,\\?!?\s?\d{3}", gold):
        yield "thin spaces", gold.replace(",", ",\\, ")
        yield "no spaces", re.sub(r",\s+", ",", gold)
        yield "wide spaces", re.sub(r",\s*", r", \\quad ", gold)
    if INTEGER.fullmatch(gold):
        value = int(gold)
        yield "point zero", f"{gold}.0"
        yield "sum", f"{value - 1}+1"
        yield "unit", f"{gold} \\text{{ units}}"
        yield "text", f"\\text{{{gold}}}"
        yield "braces", f"{{{gold}}}"
        yield "quotient", f"\\frac{{{2 * value}}}{{2}}"
        yield "money", f"\\${gold}"
        if value >= 1000:
            yield "commas", f"{value:,}"
            yield "braced commas", f"{value:,}".replace(",", "{,}")
            yield "thin thousands", f"{value:,}".replace(",", "\\,")
        if value < 0:
            yield "unicode minus", gold.replace("-", "\u2212")
            yield "brackets", f"({gold})"
        else:
            yield "plus", f"+{gold}"
            yield "leading zero", f"0{gold}"
    if match := FRACTION.fullmatch(gold):
        sign, top, bottom = match[1], int(match[2]), int(match[3])
        yield "slash", f"{sign}{top}/{bottom}"
        yield "unreduced", f"{sign}\\frac{{{3 * top}}}{{{3 * bottom}}}"
        yield "two minus", f"\\frac{{{'-' if not sign else ''}{top}}}{{-{bottom}}}"
        if top > bottom:
            yield "mixed", f"{sign}{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}"
        if 1000 % bottom == 0:
            yield "decimal", f"{sign}{top / bottom}"
            yield (
                "bare decimal",
                f"{sign}{top / bottom}".replace("0.", ".", 1) if top < bottom else f"{sign}{top / bottom}0",
            )
    if match := re.fullmatch(r"\\text\{(.*)\}", gold):
        yield "bare words", match[1]
        yield "capitals", match[1].upper()
        yield "mbox", f"\\mbox{{{match[1]}}}"
        yield "textbf", f"\\textbf{{{match[1]}}}"
    if gold.endswith("^\\circ"):
        yield "degree sign", gold.replace("^\\circ", "°")
        yield "braced degrees", gold.replace("^\\circ", "^{\\circ}")
        yield "no degrees", gold.replace("^\\circ", "")
        yield "degrees in words", gold.replace("^\\circ", " \\text{ degrees}")
    if "\\pi" in gold:
        yield "unicode pi", gold.replace("\\pi", "π")
    if match := re.fullmatch(r"(\d*)\\sqrt\{(\d+)\}", gold):
        factor, inner = int(match[1] or 1), int(match[2])
        yield "one root", f"\\sqrt{{{factor * factor * inner}}}"
        yield "times", f"{factor} \\cdot \\sqrt{{{inner}}}"
        yield "unicode root", f"{factor}√{{{inner}}}"
        yield "power of a half", f"{factor}*{inner}^{{1/2}}"
    if re.fullmatch(r"[-+\w^{}]+", gold) and "x" in gold and "+" in gold:
        yield "terms turned", "+".join(reversed(gold.replace("-", "+-").removeprefix("+").split("+")))
        yield "doubled and halved", f"\\frac{{2({gold})}}{{2}}"
    if re.fullmatch(r"[-\d]+(?:, ?[-\d]+)+", gold) and not re.search(r"\d,\\?!?\s?\d{3}", gold):
        parts = re.split(r", ?", gold)
        yield "order", ", ".join(reversed(parts))
        yield "set", "\\{" + ", ".join(parts) + "\\}"
        yield "and", " \\text{ and } ".join(parts) if len(parts) == 2 else ", ".join(parts)


def in_sentences(gold: str) -> Iterator[tuple[str, str]]:
    """Yield whole texts whose extracted answer is the gold answer."""
    yield "boxed", f"So the result follows. The answer is \\boxed{{{gold}}}."
    yield "boxed, text after", f"Hence \\boxed{{{gold}}}, which was to be shown in 3 steps."
    yield "fbox", f"\\fbox{{{gold}}}"
    yield "hashes", f"We add both.\n#### {gold}"
    yield "final answer", f"Final Answer: The final answer is ${gold}$. I hope it is correct."


def measure_variants(golds: list[str], seconds: float) -> dict[str, Any]:
    """Measure wrong verdicts by kind, and speed over pairs that are in no cache."""
    pairs = [(kind, text, gold) for gold in golds for kind, text in variants(gold)]
    wrong = [
        (kind, text, gold, grade.verdict.value)
        for kind, text, gold in pairs
        if (grade := compare_exactly(text, gold)).verdict is not Verdict.CORRECT
    ]
    for gold in golds:
        for kind, text in in_sentences(gold):
            answer = extract(text).answer or ""
            if compare_exactly(answer, gold).verdict is not Verdict.CORRECT:
                wrong.append((kind, text, gold, f"extracted {answer!r}"))
    tokens.cache_clear()
    _read.cache_clear()
    started = time.perf_counter()
    for _, text, gold in pairs:
        compare_exactly(text, gold)
    ours = len(pairs) / (time.perf_counter() - started)
    kinds = Counter(gold for _, _, gold in pairs)
    return {
        "answers": len(golds),
        "pairs": len(pairs),
        "kinds": len({kind for kind, _, _ in pairs}),
        "kinds_per_answer": round(sum(kinds.values()) / len(kinds), 1),
        "wrong": wrong,
        "pairs_per_second": round(ours),
        **peer(pairs, ours, seconds),
    }


def peer(pairs: list[tuple[str, str, str]], ours: float, seconds: float) -> dict[str, Any]:
    """Run Math-Verify on the same pairs, in random order, for some seconds."""
    from math_verify import parse, verify

    sample = random.Random(0).sample(pairs, len(pairs))
    started, done, wrong = time.perf_counter(), 0, 0
    for _, text, gold in sample:
        if time.perf_counter() - started > seconds:
            break
        wrong += not verify(
            parse(f"${gold}$", parsing_timeout=None), parse(f"${text}$", parsing_timeout=None), timeout_seconds=None
        )
        done += 1
    theirs = done / (time.perf_counter() - started)
    return {"math_verify_per_second": round(theirs), "math_verify_wrong_share": wrong / done, "ratio": ours / theirs}


def measure_others(golds: list[str]) -> dict[str, Any]:
    """Compare every answer with every other."""
    distinct = sorted(set(golds))
    verdicts: Counter[str] = Counter()
    equal: list[tuple[str, str]] = []
    started = time.perf_counter()
    for index, first in enumerate(distinct):
        for second in distinct[index + 1 :]:
            verdict = compare_exactly(first, second).verdict
            verdicts[verdict.value] += 1
            if verdict is Verdict.CORRECT:
                equal.append((first, second))
    pairs = sum(verdicts.values())
    return {
        "pairs": pairs,
        **verdicts,
        "pairs_per_second": round(pairs / (time.perf_counter() - started)),
        "equal": equal,
    }


def measure_pairs(path: Path, grader: MathGrader) -> dict[str, Any]:
    """Measure agreement with triples; the answer of a text with several words is extracted first."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    different: list[dict[str, Any]] = []
    verdicts: Counter[str] = Counter()
    for row in rows:
        answer, gold = _answer(row["answer"]), _answer(row["gold"])
        grade = grader.grade_now(answer, gold)
        verdicts[f"{grade.verdict.value}, expected {'correct' if row['expected'] else 'not'}"] += 1
        if (grade.verdict is Verdict.CORRECT) != row["expected"]:
            different.append({"gold": gold[:200], "answer": answer[:200], "expected": row["expected"], **_plain(grade)})
    return {"pairs": len(rows), "agreement": 1 - len(different) / len(rows), **verdicts, "different": different}


def _answer(text: str) -> str:
    boxed = extract(text, ("boxed",)).answer
    if boxed:
        return boxed
    prose = len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", text)) >= 3
    return (extract(text).answer if prose or "$" in text else None) or text


def _plain(grade: Any) -> dict[str, str]:
    return {"verdict": grade.verdict.value, "reason": grade.reason}


def hostile() -> list[str]:
    """Return inputs that make parsers hang, exhaust memory or abort."""
    deep = [opening * n + "1" + closing * n for n in (20, 39, 5_000) for opening, closing in ("{}", "()", "[]")]
    return [
        *deep,
        "9^9^9", "9^{9^{9^{9}}}", "2^{99999999}", "10^{10^{10}}", "(((2^9)^9)^9)^9", "2**3**4**5", "x^{x^{x^{x}}}",
        "e^{e^{e^{e}}}", "\\sqrt{" * 30 + "2" + "}" * 30, "\\frac{1}{" * 30 + "2" + "}" * 30,
        "\\frac{" * 38 + "1" + "}{2}" * 38, "20!!!", "((20!)!)!", "1000000000!", "99999!", "(10^6)!", "170!+171!",
        "\\binom{10^9}{10^8}", "\\binom{999999}{3333}", "1e999999999", "1e-99999", "9" * 999, "9" * 5_000,
        "1" + "0" * 1_000_000, "{" * 10_000, "}" * 10_000, "(" * 10_000, "$" * 10_000, "\\" * 10_000, "x" * 1_999,
        "\x00", "1\x00", "\ud800", "\x1b[31m5", "\\input{/etc/passwd}", "\\def\\x{\\x\\x}\\x", "\\csname a\\endcsname",
        "(a+b+c+d+e+f+g)^{40}", "(x+y)^{64}(x-y)^{64}", "(a+b+c+d)^{9}(e+f+g+h)^{9}", "\\prod_{i=1}^{10^9} i",
        "\\sum_{n=1}^{\\infty} \\frac{1}{n^{s}}", "\\int_0^1 e^{x^2\\sin(x^x)} dx", "\\lim_{n\\to\\infty} n^{n^n}",
        "\\sin(" * 15 + "x" + ")" * 15, "\\sqrt[99999]{7}", "\\sqrt[64]{" + "7" * 900 + "}", "\\log_{0}{0}",
        "\\frac{0}{0}",
        "1/" * 900 + "1", "-" * 1_999, "1," * 900 + "1", "\\{" + ",".join(map(str, range(400))) + "\\}", "|" * 500,
        "\\begin{pmatrix}" + "1&" * 600 + "\\end{pmatrix}", "\\pm" * 300 + "1", "x_{x_{x_{x_{x}}}}",
        "\u0661\u0662\u0663",
        "999999999989^{1/2}", "\\tan(10^{100})", "(" * 30 + "x+1" + ")^{2}" * 30, "x" + "^2" * 500,
        "\\zeta(3)^{\\pi^{e}}",
        "\\frac{1}{998244353^{1/3}+1}", "\\cos\\left(\\frac{2\\pi}{17}\\right)^{64}", "a = " * 300 + "1",
        "1<" * 300 + "2",
    ]  # fmt: skip


async def measure_hostile(seconds: float) -> dict[str, Any]:
    """Grade every hostile input against three gold answers, with harmless pairs at the same time."""
    grader = MathGrader(limits=WorkerLimits(seconds=seconds), cache=GradeCache(None, ""))
    await grader.grade("\\sin 30^\\circ", "\\frac12")
    slowest: list[tuple[float, str, str]] = []
    verdicts: Counter[str] = Counter()
    waits: list[float] = []
    running = True

    async def harmless() -> None:
        place = 0
        while running:
            place += 1
            started = time.perf_counter()
            grade = await grader.grade(f"\\sin({place}x)", f"-\\sin(-{place}x)")
            assert grade.verdict is Verdict.CORRECT, grade
            grade = await grader.grade(f"{place}", f"{place}.0")
            assert grade.verdict is Verdict.CORRECT, grade
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)

    async def attack(text: str) -> None:
        for gold in ("5", "x^2+1", text[:-1] + "2"):
            started = time.perf_counter()
            grade = await grader.grade(text, gold)
            slowest.append((time.perf_counter() - started, text[:40], grade.reason))
            verdicts[grade.verdict.value] += 1

    beside = asyncio.ensure_future(harmless())
    for text in hostile():
        await attack(text)
    running = False
    await beside
    slowest.sort(reverse=True)
    grader.close()
    return {
        "inputs": len(hostile()),
        "pairs": sum(verdicts.values()),
        **verdicts,
        "slowest_seconds": slowest[0][0],
        "slowest": [(round(wait, 2), text, reason) for wait, text, reason in slowest[:8]],
        "longest_wait_of_a_harmless_pair": max(waits),
        "parent_megabytes": round(_resident() / 1e6),
    }


async def measure_job(questions: int) -> dict[str, Any]:
    """Measure the share of an OmegaPRM job on the arithmetic world that extracting and grading take."""
    from contextlib import closing
    from itertools import islice

    from openr_data.config import build
    from openr_data.engine.scheduler import Done, run
    from openr_data.grading import extract_finished
    from openr_data.models import model_entry
    from openr_data.registry import load
    from openr_data.types import Sampling

    chosen = list(islice(load("source", "arithmetic")().read("test", 0), questions))
    gold = {question.question_id: question.answer for question in chosen}
    entry, kind = model_entry("arithmetic"), load("labeler", "omegaprm")
    labeler = kind(build(kind.config_type, {"screening": 16, "searches": 20}), Sampling(max_tokens=entry.max_tokens))
    rollouts: list[Any] = []
    with closing(load("policy", "transformers")("arithmetic")) as policy, closing(MathGrader()) as grader:
        started = time.perf_counter()
        async for outcome in run(chosen, lambda question: labeler.label(question, policy, grader), live=64):
            assert isinstance(outcome, Done)
            rollouts += outcome.result.rollouts
        job = time.perf_counter() - started
    tokens.cache_clear()
    _read.cache_clear()
    with closing(MathGrader()) as fresh:
        started = time.perf_counter()
        for rollout in rollouts:
            extracted = extract_finished(rollout.text, rollout.finish_reason, ())
            if extracted.answer is not None:
                await fresh.grade(extracted.answer, gold[rollout.question_id])
        grading = time.perf_counter() - started
    return {"questions": questions, "rollouts": len(rollouts), "job_seconds": job, "grading_seconds": grading,
            "share": grading / job}  # fmt: skip


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run all parts for which there is data."""
    parser = argparse.ArgumentParser(description="grading")
    shared = os.environ.get("OPENR_SHARED_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(shared))
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="the limit of one symbolic comparison")
    options = parser.parse_args()
    rows = (options.data / "math" / "test500.jsonl").read_text().splitlines()
    golds = [json.loads(line)["answer"] for line in rows]
    results: dict[str, Any] = {"variants": measure_variants(golds, seconds=10), "others": measure_others(golds)}
    if options.pairs:
        grader = MathGrader(cache=GradeCache(None, ""))
        results["pairs"] = measure_pairs(options.pairs, grader)
        grader.close()
    results["job"] = asyncio.run(measure_job(64))
    results["hostile"] = asyncio.run(measure_hostile(options.seconds))
    for part, figures in results.items():
        print(part)
        for name, value in figures.items():
            if isinstance(value, list):
                print(f"  {name}: {len(value)}", *(f"    {entry}" for entry in value), sep="\n")
            else:
                print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "grading.json"
    out.write_text(json.dumps(results, indent=2, ensure_ascii=True) + "\n")
    print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
