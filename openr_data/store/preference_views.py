"""The SQL of preferences: pairs of steps and of whole responses, from stored rollouts.

Preference trainers read the columns `prompt`, `chosen` and `rejected`. A prompt ends with a blank line, so that prompt
and answer together are the text as it was written; it holds the question and the steps so far without a chat template
(apply one to `question` and `prefix_steps`).

- `sibling_pairs`: two steps after the same prefix with different values (OmegaPRM, arXiv 2406.06592, appendix B; the
  PPM of rStar-Math, arXiv 2501.04519). `target` is the Bradley-Terry target (1 + p - q) / 2.
- `outcomes`: complete responses to the bare question, each with its outcome (implicit PRM, arXiv 2412.01981).
- `outcome_pairs`: the i-th right response with the i-th wrong one, so a question has as many as the rarer side.

The value p of a step is the share of correct rollouts of its prefix, over all jobs of a policy; without rollouts it is
1 or 0 for a complete solution with a verdict. A certified prefix that was not measured, or measured 0, has an unknown
value above 0: it is preferred to a step that was measured 0, with `p_chosen` and `target` null, and it is in no other
pair.

Limits: a prefix of n measured steps has up to n (n - 1) / 2 pairs. The text of a prefix is put together from its nodes,
so a pair whose prefix lacks nodes down to the question is left out; the prefix of a step with a correct rollout is
always complete. Shares of rollouts that were drawn until a label was sure (the method `adaptive`) are biased.
"""

from collections.abc import Mapping
from typing import Final

_BLANK_LINE: Final = "repeat(chr(10), 2)"

PREFERENCE_VIEWS: Final[Mapping[str, str]] = {
    # Only the texts of prefixes with a pair are put together, from their end to the question.
    "sibling_pairs": f"""
        with recursive measured as (
            select policy, parent_id, node_id, step, n_rollouts, certified,
                   coalesce(soft, case when terminal and verdict = 'correct' then 1.0
                                       when terminal and verdict = 'incorrect' then 0.0 end) as share
            from prefixes where parent_id is not null
        ), siblings as (
            select policy, parent_id, step, n_rollouts,
                   case when share > 0 or not certified then share end as p
            from measured where share is not null or certified
        ), paired as (
            select policy, parent_id, a.step as chosen, b.step as rejected, a.p as p_chosen, b.p as p_rejected,
                   a.n_rollouts as n_chosen, b.n_rollouts as n_rejected
            from siblings a join siblings b using (policy, parent_id)
            where a.p > b.p or (a.p is null and b.p = 0)
        ), places as materialized (
            select node_id, any_value(parent_id) as parent_id, any_value(step) as step,
                   any_value(question_id) as question_id
            from nodes group by node_id
        ), paths(parent_id, reached, prefix_steps) as (
            select distinct parent_id, parent_id, []::varchar[] from paired
            union all
            select paths.parent_id, places.parent_id, list_prepend(places.step, prefix_steps)
            from paths join places on places.node_id = reached
        )
        select question_id, policy, paired.parent_id, question, prefix_steps,
               array_to_string(list_prepend(question, prefix_steps), {_BLANK_LINE}) || {_BLANK_LINE} as prompt,
               chosen, rejected, p_chosen, p_rejected, n_chosen, n_rejected,
               (1 + p_chosen - p_rejected) / 2 as target
        from paired join paths using (parent_id)
        join places on places.node_id = reached and places.parent_id is null
        join questions using (question_id)
    """,
    "outcomes": f"""
        with complete as (
            select distinct on (question_id, policy, text) question_id, policy, rollout_id, text,
                   verdict = 'correct' as correct
            from rollouts
            where text is not null and verdict in ('correct', 'incorrect')
              and node_id in (select node_id from nodes where parent_id is null)
            order by question_id, policy, text, rollout_id, job_id
        )
        select question_id, policy, rollout_id, question, question || {_BLANK_LINE} as prompt, text as response, correct
        from complete join questions using (question_id)
    """,
    "outcome_pairs": """
        with placed as (
            select question_id, policy, prompt, response, correct,
                   row_number() over (partition by question_id, policy, correct order by rollout_id) as place
            from outcomes
        )
        select question_id, policy, a.prompt, a.response as chosen, b.response as rejected
        from placed a join placed b using (question_id, policy, place) where a.correct and not b.correct
    """,
}
"""Name to definition, as `views.VIEWS` holds them."""
