"""Writes the model card of a reward model: its training data, how to read it, and its figures on the dev split."""

import json
from collections.abc import Mapping
from typing import Any

from openr_data.overlap import SEEN_FILE
from openr_data.prm_format import PrmFormat


def prm_card(name: str, form: PrmFormat, config: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the text of README.md."""
    dev = figures["dev"]
    shared = figures["solution_tokens"] / max(1, figures["tokens"])
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in dev.items())
    measured = f"| on {figures['dev_solutions']:,} held-out solutions | |\n|---|---|\n{rows}\n" if dev else "None.\n"
    # JSON and TOML write numbers, truth values and strings in the same way.
    options = "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in sorted(config.items())
        if value not in ("", None)
    )
    more = _REASONS.format(name=name, count=figures["reasons"]) if figures.get("reasons") else ""
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [process-reward-model, process-supervision, openr-data]
---

# {name}

A process reward model: for each step of a solution, the probability that it is right.

- Base model: `{config["model"]}`, {figures["parameters"]:,} parameters.
- Trained on `{figures["data"]}` (digest `{figures["digest"]}`): {figures["total"]:,} solutions of
  {figures["questions"]:,} questions, {figures["steps"]:,} labelled steps, {figures["good_steps"]:,} of them good;
  {figures["masked_steps"]:,} steps without a label were not trained on.
- {figures["tokens"]:,} tokens per epoch: the common beginnings of a question's solutions are read once
  (read separately, the solutions have {figures["solution_tokens"]:,} tokens, {shared:.1f} times as many).
- {figures["updates"]:,} updates in {figures["seconds"]:,.0f} s.
- `{SEEN_FILE}` has fingerprints of these questions and of those held out: `openr-data eval` reports how many
  of its questions are among them.
- Too long: {figures["cut_steps"]:,} steps of {figures["cut_solutions"]:,} solutions were cut,
  {figures["dropped_solutions"]:,} solutions left out.

## How it is read

Format `{form.name}` (version {form.version}): {_reading(form)} A step below {form.threshold:g} counts as wrong; that
threshold has the best F1 of first errors on the dev split.

```python
from openr_data.inference.rewards.transformers import TransformersReward

model = TransformersReward("{name}")
scores = await model.score(question, steps)  # one number in [0, 1] per step
```
{more}
## Dev split (questions that it was not trained on)

{measured}
These figures compare the model with labels like those it learned from, not with the truth. Test it with:
`openr-data eval prm {name} --on …`

## Configuration

```toml
{options}
```
"""


_REASONS = """
It learned {count:,} reasons, and writes one after its verdict on a step: `openr-data explain {name} DATASET`, or

```python
verdicts = await model.explain(question, steps)  # score, verdict and reason of each step
```
"""


def _reading(form: PrmFormat) -> str:
    match form.head:
        case "lm_pair" if form.tag:
            return f"`{form.tag}` after each step, and there `{form.good}` against `{form.bad}` as the next token."
        case "lm_pair":
            return f"each step is a turn, and its answer `{form.good}` against `{form.bad}`."
        case "classes":
            return f"class {form.good_class} of a classifier at `{form.tag}` after each step."
        case _:
            return "one number after each step, through a sigmoid."
