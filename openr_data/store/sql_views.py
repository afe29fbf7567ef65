"""The SQL of a dataset beyond its tables: macros (the algebra of labels) and views over the tables.

`openr_data/labels.py` has the same algebra in Python; a test compares both.
"""

from collections.abc import Mapping
from typing import Final

from ..labels import WILSON_Z
from ..registry import SEARCHES
from ..relative import EPSILON, TOLERANCE
from ..types import Provenance
from .preference_views import PREFERENCE_VIEWS

_Z2 = WILSON_Z**2


def _wilson(sign: str) -> str:
    root = f"{WILSON_Z} * sqrt(greatest(n_correct * (n_rollouts - n_correct), 0) / n_rollouts + {_Z2 / 4})"
    end = f"(n_correct + {_Z2 / 2} {sign} {root}) / (n_rollouts + {_Z2})"
    # Rounding must not put an end of the interval on the wrong side of the share, or outside of 0 and 1.
    held = (
        f"greatest(0.0, least({end}, n_correct / n_rollouts))"
        if sign == "-"
        else (f"least(1.0, greatest({end}, n_correct / n_rollouts))")
    )
    return f"case when n_rollouts > 0 then {held} end"


MACROS: Final[Mapping[str, str]] = {
    "soft_label(n_correct, n_rollouts)": "case when n_rollouts > 0 then n_correct / n_rollouts end",
    "hard_label(n_correct, n_rollouts, threshold := 0.0)": (
        "case when n_rollouts > 0 then case when n_correct / n_rollouts > threshold then 1 else -1 end end"
    ),
    "wilson_low(n_correct, n_rollouts)": _wilson("-"),
    "wilson_high(n_correct, n_rollouts)": _wilson("+"),
    # list_position counts from 1 and returns null for a missing element.
    "first_error(labels)": "nullif(coalesce(list_position(labels, -1), 0), 0) - 1",
    "cohens_kappa(good_good, good_bad, bad_good, bad_bad)": (
        "case when (good_good + good_bad) * (good_good + bad_good) + (bad_bad + bad_good) * (bad_bad + good_bad) "
        "< (good_good + good_bad + bad_good + bad_bad) ** 2 then "
        "(1.0 * (good_good + bad_bad) * (good_good + good_bad + bad_good + bad_bad) - "
        "((good_good + good_bad) * (good_good + bad_good) + (bad_bad + bad_good) * (bad_bad + good_bad))) / "
        "((good_good + good_bad + bad_good + bad_bad) ** 2 - "
        "((good_good + good_bad) * (good_good + bad_good) + (bad_bad + bad_good) * (bad_bad + good_bad))) end"
    ),
    # A good step makes all steps before it good: the answer can be reached from there.
    "repair(labels)": (
        "list_transform(labels, lambda label, place: "
        "case when place < coalesce(len(labels) + 1 - list_position(list_reverse(labels), 1), 0) then 1 else label end)"
    ),
    f"relative_label(value, parent, epsilon := {EPSILON})": (
        "case when value <= 0 then -1 when value is null or parent is null then null "
        f"when parent <= 0 or value / parent < epsilon - {TOLERANCE} then -1 else 1 end"
    ),
}
"""Signature to definition."""

EVENTS: Final = "job_events"
"""The rows of the table `jobs` as they are stored; the view `jobs` parses them."""


def _spent(names: str) -> str:
    """Columns out of the totals of an event. Older events lack some: of a reward model they are 0, else null."""
    kinds = {"calls": "bigint", "seconds": "double", "seconds_total": "double", "gpu_hours": "double", "cost": "double"}
    text = {"currency", "outcome", "question_id", "stopped_by"}
    columns = []
    for name in names.split():
        read = f"totals->>'$.{name}'"
        kind = "varchar" if name in text else kinds.get(name, "bigint")
        column = f"try_cast({read} as {kind})"
        columns.append(f'coalesce({column}, 0) as "{name}"' if name.startswith("reward_") else f'{column} as "{name}"')
    return ", ".join(columns)


_SEARCHES: Final = ", ".join(f"'{name}'" for name in sorted(SEARCHES))
"""The searches of this version, as SQL; jobs of other ones are known by their kind."""

_TOKENS: Final = (
    "requests completions prompt_tokens cached_tokens completion_tokens truncated cut_tokens reused cancelled "
    "reward_calls reward_tokens reward_tokens_read"
)

VIEWS: Final[Mapping[str, str]] = {
    "jobs": f"""
        select job_id, kind, event, config, versions, totals, "at",
               {_spent(f"done failed labelled located calls {_TOKENS} retries seconds_total gpu_hours cost currency")}
        from job_events where event not like 'question:%'
    """,
    "question_costs": f"""
        select job_id, {_spent(f"question_id outcome located calls probes {_TOKENS} seconds cost currency")}
        from job_events where event like 'question:%'
    """,
    "records": """
        select l.label_id, l.question_id, l.solution_id, l.method, l.completer, l.job_id,
               q.question, q.answer, q.source, q.split, q.level, q.subject,
               s.steps, s.n_steps, s.final_answer, s.outcome, s.generator,
               l.label, l.value, l.n_correct, l.n_rollouts, l.provenance, l.node_id, l.first_error,
               q.metadata as question_metadata, s.metadata as solution_metadata, l.metadata as label_metadata
        from labels l
        join solutions s using (question_id, solution_id, job_id)
        join questions q using (question_id)
    """,
    # One unnest of the indexes, then look-ups: a query reads only the lists that it names.
    "steps": """
        select label_id, question_id, solution_id, method, completer, job_id, source, split, level, subject,
               generator, outcome, len(label)::int as n_steps, first_error, step_index,
               steps[step_index + 1] as step, label[step_index + 1] as label, value[step_index + 1] as value,
               n_correct[step_index + 1] as n_correct, n_rollouts[step_index + 1] as n_rollouts,
               ['measured', 'certified', 'inferred', 'judged', 'human', 'imported', 'stopped'][
                   provenance[step_index + 1] + 1] as provenance,
               node_id[step_index + 1] as node_id
        from (select *, unnest(range(len(label))) as step_index from records)
    """,
    # Prefixes are joined by id: a score belongs to every label set whose solution passes through the prefix.
    "step_scores": """
        select label_id, question_id, solution_id, method, completer, s.job_id, generator, outcome, first_error,
               n_steps, step_index, step, label, value, provenance, reward, score, node_id
        from steps s join scores using (question_id, node_id)
    """,
    # Independent candidates are rollouts from the root, those of a guided search the complete paths of its tree.
    "candidates": f"""
        select r.question_id, q.question, r.job_id, n.method as search, r.policy, r.rollout_id as candidate_id,
               r.answer, r.verdict, r.finish_reason, r.n_tokens, null::double as path_score,
               null::bigint as tokens_spent
        from rollouts r join nodes n using (question_id, node_id, job_id) join questions q using (question_id)
        where n.parent_id is null and (
            n.method in ({_SEARCHES}) or r.job_id in (select job_id from job_events where kind = 'search'))
        union all
        select t.question_id, q.question, t.job_id, t.search, t.policy, t.node_id,
               t.answer, t.verdict, t.finish_reason, null::int, t.path_score, t.tokens_spent
        from search_nodes t join questions q using (question_id)
        where t.state = 'ended' and not exists (
            from rollouts r where r.question_id = t.question_id and r.job_id = t.job_id)
    """,
    "prefixes": """
        with drawn as (
            select node_id, question_id, policy,
                   count(*) filter (verdict = 'correct') as n_correct,
                   count(*) filter (verdict <> 'unknown') as n_rollouts,
                   count(*) filter (verdict = 'unknown') as n_unknown
            from (select distinct on (rollout_id) * from rollouts order by rollout_id, job_id)
            group by node_id, question_id, policy
        ), counted as (
            select node_id, question_id, policy, any_value(depth) as depth, any_value(step) as step,
                   any_value(parent_id) as parent_id,
                   bool_or(certified) as certified, bool_or(terminal) as terminal, min(verdict) as verdict,
                   coalesce(any_value(drawn.n_correct), 0) as n_correct,
                   coalesce(any_value(drawn.n_rollouts), 0) as n_rollouts,
                   coalesce(any_value(drawn.n_unknown), 0) as n_unknown,
                   count(distinct job_id) as n_jobs
            from nodes left join drawn using (node_id, question_id, policy) group by node_id, question_id, policy
        )
        select *, soft_label(n_correct, n_rollouts) as soft,
               case when certified then 1 else hard_label(n_correct, n_rollouts) end as hard,
               wilson_low(n_correct, n_rollouts) as low, wilson_high(n_correct, n_rollouts) as high
        from counted
    """,
    "pooled": """
        with labelled as (
            select distinct on (l.solution_id, l.completer) l.question_id, l.solution_id, l.completer as policy,
                   l.node_id, s.outcome
            from labels l join solutions s using (question_id, solution_id, job_id)
            order by l.solution_id, l.completer, l.label_id
        ), placed as (
            select question_id, solution_id, policy, unnest(node_id) as node_id,
                   unnest(range(len(node_id))) as step_index, len(node_id) as n, outcome
            from labelled
        ), counted as (
            select question_id, solution_id, policy,
                   list(coalesce(p.n_correct, 0) order by step_index) as n_correct,
                   list(coalesce(p.n_rollouts, 0) order by step_index) as n_rollouts,
                   list(p.soft order by step_index) as value,
                   list(p.low order by step_index) as low, list(p.high order by step_index) as high,
                   -- The last step of a complete solution is as good as its answer.
                   list(case when step_index = n - 1 and outcome is not null then if(outcome, 1, -1) else p.hard end
                        order by step_index) as measured,
                   max(p.n_jobs) as n_jobs
            from placed left join prefixes p using (node_id, question_id, policy)
            group by question_id, solution_id, policy
        )
        select *, repair(measured)::tinyint[] as label, first_error(repair(measured))::smallint as first_error
        from counted where n_jobs is not null
    """,
    "agreement": """
        with paired as (
            select a.method as method, b.method as other, a.solution_id, a.first_error as error_a,
                   b.first_error as error_b, unnest(a.label) as label_a, unnest(b.label) as label_b,
                   unnest(range(len(a.label))) as step_index
            from labels a join labels b
              on a.solution_id = b.solution_id and a.method < b.method and len(a.label) = len(b.label)
        ), counted as (
            select method, other, count(distinct solution_id) as solutions,
                   count(*) filter (label_a is not null and label_b is not null) as steps,
                   count(*) filter (label_a = 1 and label_b = 1) as both_good,
                   count(*) filter (label_a = -1 and label_b = -1) as both_bad,
                   count(*) filter (label_a = 1 and label_b = -1) as good_bad,
                   count(*) filter (label_a = -1 and label_b = 1) as bad_good,
                   count(*) filter (label_a = label_b) as agreeing,
                   avg((error_a is not distinct from error_b)::int) filter (step_index = 0) as same_first_error
            from paired group by method, other
        )
        select method, other, solutions, steps, both_good, both_bad, good_bad, bad_good,
               case when steps > 0 then agreeing / steps end as agreement,
               cohens_kappa(both_good, good_bad, bad_good, both_bad) as kappa, same_first_error
        from counted
    """,
    "first_errors": """
        select label_id, question_id, solution_id, method, job_id, level, subject, n_steps, first_error,
               steps[first_error + 1] as step
        from records where first_error is not null
    """,
    # `openr_data/relative.py` has the same rules. The root is that of the job, else the root measured most.
    "relative_progress": f"""
        with roots as (
            select question_id, policy, job_id, n_rollouts, soft_label(n_correct, n_rollouts) as value
            from nodes
            where parent_id is null and n_correct > 0 and job_id not in (
                select job_id from labels where list_contains(provenance, {int(Provenance.STOPPED)}))
        ), best as (
            select distinct on (question_id, policy) * from roots order by question_id, policy, n_rollouts desc, job_id
        ), measured_steps as (
            select r.label_id, r.question_id, r.solution_id, r.method, r.completer, r.job_id, r.steps,
                   coalesce(own.value, best.value) as root,
                   list_transform(range(1, len(r.label) + 1), lambda i: coalesce(
                       r.value[i]::double, soft_label(r.n_correct[i], r.n_rollouts[i]))) as measured,
                   list_transform(measured, lambda share, i: case when r.provenance[i] is distinct from if(
                       share > 0, {int(Provenance.STOPPED)}, {int(Provenance.CERTIFIED)}) then share end) as usable
            from records r
            left join roots own on own.question_id = r.question_id and own.job_id = r.job_id
            left join best on best.question_id = r.question_id and best.policy = r.completer
        ), known as (
            select *, list_transform(usable, lambda share, i: if(
                       i > coalesce(list_position(usable, 0.0), len(usable)), 0.0, share)) as share
            from measured_steps
        ), laid_out as (
            select * exclude (root, measured, usable, share), measured[step_index + 1] as measured,
                   share[step_index + 1] as value, if(step_index = 0, root, share[step_index]) as parent_value
            from (select *, unnest(range(len(share))) as step_index from known)
        )
        select label_id, question_id, solution_id, method, completer, job_id, step_index,
               steps[step_index + 1] as step, measured, value, parent_value,
               case when parent_value > 0 then value / parent_value end as ratio,
               relative_label(value, parent_value)::tinyint as label
        from laid_out
    """,
    **PREFERENCE_VIEWS,
}
"""Name to definition; a view may use the tables, the macros and the views before it."""
