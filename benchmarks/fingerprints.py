"""Writes the fingerprints of a benchmark's questions, for `catalogs/benchmarks/NAME.txt`; no text is copied.

    python benchmarks/fingerprints.py FILE [FILE ...] --origin TEXT --licence NAME [--against FILE [FILE ...]]

A FILE is JSON lines or a JSON array of rows with `problem` or `question`. The sorted list of distinct fingerprints goes
to standard output. The overlap with the files of `--against` and with the shipped benchmarks goes to standard error. A
list is valid only for the `normalised` it was made with: after a change there all lists must be made again, and a test
fails until then. The shipped lists were made from these files of ../shared/data:

    math-500            math/test500.jsonl       --licence MIT        --origin "MATH-500 (openai/prm800k) of MATH"
    gsm8k-test          gsm8k/test.jsonl         --licence MIT        --origin "GSM8K test (openai/grade-school-math)"
    processbench-gsm8k  processbench/gsm8k.json  --licence Apache-2.0 --origin "ProcessBench gsm8k (Qwen/ProcessBench)"
    processbench-math   processbench/math.json   --licence Apache-2.0 --origin "ProcessBench math (Qwen/ProcessBench)"
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openr_data.overlap import benchmarks, fingerprint


def questions(path: Path) -> Iterator[str]:
    """Yield the texts of the questions of a file."""
    text = path.read_text(encoding="utf-8")
    rows: Iterable[Any] = (
        json.loads(text) if text.lstrip().startswith("[") else map(json.loads, filter(None, text.split("\n")))
    )
    for row in rows:
        yield row["problem"] if "problem" in row else row["question"]


def listing(files: Iterable[Path], origin: str, licence: str) -> str:
    """Return the text of a catalog file."""
    paths = list(files)
    hashes = [fingerprint(text) for path in paths for text in questions(path)]
    names = " ".join(f"{path.parent.name}/{path.name}" for path in paths)
    head = [
        f"# Questions of {origin}, licence {licence}: fingerprints only.",
        f"# {len(set(hashes))} different ones of {len(hashes)} rows.",
        f"# Made from {names} by benchmarks/fingerprints.py with openr_data.overlap.fingerprint.",
    ]
    return "\n".join([*head, *sorted(set(hashes)), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--origin", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--against", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    text = listing(options.files, options.origin, options.licence)
    sys.stdout.write(text)
    own = {line for line in text.splitlines() if not line.startswith("#")}
    others = {str(path): {fingerprint(question) for question in questions(path)} for path in options.against}
    for name, fingerprints in {**others, **benchmarks()}.items():
        print(f"{len(own & fingerprints)} of {len(own)} are in {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
