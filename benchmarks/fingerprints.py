"""The fingerprints of a benchmark's questions, as `catalogs/benchmarks/NAME.txt` holds them; no text is copied.

    python benchmarks/fingerprints.py FILE [FILE ...] --origin TEXT --licence NAME [--against FILE [FILE ...]]

A FILE is JSON lines or a JSON array of rows with `problem` or `question`. The list goes to standard output: sorted, a
question that stands there twice once. How many of them stand in the files `--against`, and in the benchmarks that are
known already, goes to standard error. A list holds good for the `normalised` it was made with: a change there makes
all anew, and a test says so. What is shipped was made in ../shared/data by

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
    """The texts of the questions of a file."""
    text = path.read_text(encoding="utf-8")
    rows: Iterable[Any] = (
        json.loads(text) if text.lstrip().startswith("[") else map(json.loads, filter(None, text.split("\n")))
    )
    for row in rows:
        yield row["problem"] if "problem" in row else row["question"]


def listing(files: Iterable[Path], origin: str, licence: str) -> str:
    """The text of a catalog file."""
    paths = list(files)
    found = [fingerprint(text) for path in paths for text in questions(path)]
    names = " ".join(f"{path.parent.name}/{path.name}" for path in paths)
    head = [
        f"# Questions of {origin}, licence {licence}: fingerprints only.",
        f"# {len(set(found))} different ones of {len(found)} rows.",
        f"# Made from {names} by benchmarks/fingerprints.py with openr_data.overlap.fingerprint.",
    ]
    return "\n".join([*head, *sorted(set(found)), ""])


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
    for name, known in {**others, **benchmarks()}.items():
        print(f"{len(own & known)} of {len(own)} stand in {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
