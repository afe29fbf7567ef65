"""Writes the card of a published dataset: YAML that the Hub and `load_dataset` read, and a page for people.

Its content comes from the snapshot alone: methods, models, options, the rule for labels, cost, known noise, and the
commands that rebuild the dataset.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..store import View
from .layout import Layout

SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
                (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (10**18, "n>100M"))  # fmt: skip
TAGS: Final = ("process-supervision", "process-reward-model", "math", "reasoning", "openr-data")
CONFIGS: Final = {
    "records": "a question, one process (its steps) and one label set: what a reward model is trained on",
    "steps": "one labelled step",
    "questions": "a question with its gold answer",
    "solutions": "a process without a label set",
    "nodes": "a measured or certified prefix with its Monte-Carlo counts",
    "rollouts": "one sampled completion with its verdict: the evidence for every label",
    "search_nodes": "one node of the tree of a search, kept or dropped",
    "scores": "the score a reward model gives to one prefix",
    "jobs": "one event of a job that made the dataset: configuration, versions and cost",
}


def card(view: View, layout: Layout, repo: str, license_: str) -> str:
    """Return the text of README.md."""
    from datasets import DatasetInfo, Features, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    infos: dict[str, Any] = {}
    for part in layout.parts:
        info = infos.setdefault(
            part.config, DatasetInfo(features=Features.from_arrow_schema(part.schema), splits={}, dataset_size=0)
        )
        info.splits[part.split] = SplitInfo(part.split, num_bytes=part.bytes, num_examples=part.rows)
        info.dataset_size += part.bytes
    biggest = max((part.rows for part in layout.parts if part.config in ("records", "questions")), default=0)
    data = DatasetCardData(
        license=license_,
        pretty_name=str(layout.manifest["dataset"]),
        tags=list(TAGS),
        task_categories=["text-generation"],
        size_categories=[next(name for limit, name in SIZES if biggest < limit)],
        configs=layout.configs(),
        openr_data={name: layout.manifest[name] for name in ("dataset", "snapshot", "digest")},
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return f"---\n{data.to_yaml()}\n---\n\n{_body(view, layout, repo)}"


def _body(view: View, layout: Layout, repo: str) -> str:
    manifest = layout.manifest
    parts = [
        f"# {manifest['dataset']}",
        "",
        "Process supervision: for each step of a solution, is it right? Made with openr-data; this is snapshot "
        f"`{manifest['snapshot']}`" + (f" (tag `{manifest['tag']}`)" if manifest.get("tag") else "") + ", digest "
        f"`{manifest['digest']}`.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'records = load_dataset("{repo}", "records", split="{_a_split(layout)}")',
        "```",
        "",
        *_table(
            [
                {"configuration": part.config, "split": part.split, "rows": f"{part.rows:,}", "a row is":
                 CONFIGS[part.config]}
                for part in layout.parts
            ]
        ),
        "",
        *_labels(view),
        *_cost(view),
        *_noise(view),
        *_rebuild(view, repo),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _a_split(layout: Layout) -> str:
    names = [part.split for part in layout.parts if part.config == "records"] or [part.split for part in layout.parts]
    return names[0] if names else "train"


def _labels(view: View) -> list[str]:
    rows = view.sql(
        "select method, completer as model, count(*) as label_sets, sum(len(label))::bigint as steps, "
        "round(avg(len(list_filter(label, lambda x: x = 1)) / len(label)), 3) as good, "
        "round(avg(len(list_filter(label, lambda x: x = -1)) / len(label)), 3) as bad, "
        "count(first_error) as first_errors from labels group by all order by label_sets desc, 1, 2 limit 20"
    ).to_pylist()
    if not rows:
        return ["No labels yet: only questions.", ""]
    return [
        "## Labels",
        "",
        *_table(rows),
        "",
        "`label` is +1 good, 0 neutral, -1 bad, null not judged; the lists of a row are parallel to `steps`. Measured "
        "labels follow the hard rule: a step is good if at least one graded rollout from the prefix that ends in it "
        "reached the gold answer (`n_correct` of `n_rollouts`; `value` is their share), or if a correct rollout passes "
        "through it (certified). `provenance`: 0 measured, 1 certified, 2 inferred, 3 judged, 4 human, 5 imported. "
        "`first_error` is the 0-based index of the first bad step.",
        "",
    ]


def _cost(view: View) -> list[str]:
    lines: list[dict[str, Any]] = []
    newest = "select distinct on (job_id) * from jobs where kind = 'label' order by job_id, \"at\" desc, event"
    for row in view.sql(f'select * from ({newest}) order by "at"').to_pylist():
        totals, config = _json(row["totals"]), _json(row["config"])
        lines.append(
            {
                "job": row["job_id"],
                "method": config.get("method", ""),
                "policy": config.get("policy", ""),
                "options": " ".join(f"{name}={value}" for name, value in config.get("options", {}).items()),
                "policy calls": f"{totals.get('calls', 0):,}",
                "tokens": f"{totals.get('tokens', 0):,}",
                "first errors": f"{totals.get('located', 0):,}",
                "seconds": f"{totals.get('seconds', 0):,.0f}",
            }
        )
    return ["## Jobs and cost", "", *_table(lines), ""] if lines else []


def _noise(view: View) -> list[str]:
    verdicts = view.sql(
        "select count(*) as n, count(*) filter (verdict = 'unknown') as unknown from rollouts"
    ).to_pylist()[0]
    lines = []
    if verdicts["n"]:
        lines.append(
            f"- {verdicts['unknown']:,} of {verdicts['n']:,} rollouts have no verdict (cut off, or no readable "
            "answer); they count neither as correct nor as wrong."
        )
        lines.append(
            "- A measured 0 of k may be bad luck: with a true rate p it happens with probability (1 - p)^k. A step "
            "labelled good may be a wrong one from which the policy still reached the answer."
        )
    for row in view.sql("select * from agreement order by 1, 2").to_pylist():
        lines.append(
            f"- {row['method']} and {row['other']} agree on {row['agreement']:.1%} of {row['steps']:,} common steps"
            + (f" (kappa {row['kappa']:.2f})" if row["kappa"] is not None else "")
            + "."
            if row["steps"]
            else f"- {row['method']} and {row['other']} judge no step in common."
        )
    return ["## Known noise", "", *lines, ""] if lines else []


def _rebuild(view: View, repo: str) -> list[str]:
    name = view.dataset.name
    commands = []
    oldest = 'select distinct on (job_id) * from jobs order by job_id, "at"'
    for row in view.sql(f'select kind, config from ({oldest}) order by "at"').to_pylist():
        config = _json(row["config"])
        if row["kind"] == "import":
            commands.append(f"openr-data import {name} {shlex.quote(str(config.get('file', 'FILE')))} "
                            f"--as {config.get('format', '')}")  # fmt: skip
        elif row["kind"] == "label":
            commands.append(_label_command(config, name))
        elif row["kind"] == "regrade":
            commands.append(f"openr-data regrade {name} --grader {str(config.get('grader', '')).partition('/')[0]}")
    lines = [
        "## SQL over every step",
        "",
        "```sh",
        f"openr-data pull {repo} --into {name}",
        f'openr-data sql {name} "select level, count(*) from first_errors group by 1 order by 1"',
        f"openr-data sql {name} --saved label-balance-by-level",
        "```",
        "",
        "Or with DuckDB alone:",
        "",
        "```sql",
        f"select method, avg(value) from 'hf://datasets/{repo}/data/steps/*.parquet' group by 1",
        "```",
        "",
    ]
    if commands:
        lines += ["## How to rebuild it", "", "```sh", *dict.fromkeys(commands), "```", ""]
    return lines


def _label_command(config: Mapping[str, Any], name: str) -> str:
    words = ["openr-data", "label", str(config.get("source", "")), "--method", str(config.get("method", ""))]
    words += ["--policy", str(config.get("policy", "")), "--into", name, "--seed", str(config.get("seed", 0))]
    if config.get("limit"):
        words += ["--limit", str(config["limit"])]
    for option, value in config.get("options", {}).items():
        words += ["-o", f"{option}={value}"]
    for option in ("temperature", "top_p", "max_tokens"):
        if option in config:
            words += ["-o", f"{option}={config[option]}"]
    return shlex.join(words)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["There are no rows yet."]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(str(row[name]).replace("|", "\\|").replace("\n", " ") for name in names) + " |")
    return lines


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
