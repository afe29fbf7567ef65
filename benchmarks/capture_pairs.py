"""Writes the (gold, prediction, expected) triples of Math-Verify's own tests to a JSON-lines file.

    pip download --no-deps --no-binary :all: math-verify && tar xzf math_verify-*.tar.gz
    python benchmarks/capture_pairs.py math_verify-*/tests pairs.jsonl

The tests run unchanged while `parse` and `verify` are recorded. A triple counts if its test passed, so that the result
of `verify` is what its authors expect. This project stores nothing of the tests.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest


class _Parsed(list[Any]):
    """A result of `parse`, with the text it came from."""

    text = ""


class Capture:
    """A pytest plugin that records the pairs of passing tests."""

    def __init__(self) -> None:
        self.pending: list[tuple[str, str, bool]] = []
        self.triples: dict[tuple[str, str], bool] = {}

    def pytest_runtest_setup(self) -> None:
        self.pending = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.triples.update({(gold, answer): expected for gold, answer, expected in self.pending})

    def watch(self) -> None:
        """Replace `parse` and `verify` before the tests import them."""
        import math_verify
        import math_verify.grader
        import math_verify.parser

        parse, verify = math_verify.parse, math_verify.verify

        def watched_parse(pred: str, *args: Any, **kwargs: Any) -> _Parsed:
            parsed = _Parsed(parse(pred, *args, **kwargs))
            parsed.text = pred
            return parsed

        def watched_verify(gold: Any, target: Any, *args: Any, **kwargs: Any) -> bool:
            result = verify(gold, target, *args, **kwargs)
            if isinstance(gold, _Parsed) and isinstance(target, _Parsed):
                self.pending.append((gold.text, target.text, bool(result)))
            return result

        for module in (math_verify, math_verify.parser, math_verify.grader):
            if hasattr(module, "parse"):
                module.parse = watched_parse
            if hasattr(module, "verify"):
                module.verify = watched_verify


def main() -> None:
    """Run the tests of the folder and write the recorded triples."""
    folder, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    # Their tests import each other as `tests.…`.
    os.chdir(folder.parent)
    sys.path.insert(0, str(folder.parent))
    capture = Capture()
    capture.watch()
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder.parent), str(folder)],
        plugins=[capture],
    )
    lines = [
        json.dumps({"gold": gold, "answer": answer, "expected": expected})
        for (gold, answer), expected in capture.triples.items()
    ]
    out.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} triples in {out}")


if __name__ == "__main__":
    main()
