-- Rollouts without a verdict, by policy and reason.
select policy, count(*) as rollouts, count(*) filter (verdict = 'unknown') as unknown,
       round(avg((verdict = 'unknown')::int), 4) as rate,
       count(*) filter (verdict = 'unknown' and finish_reason = 'length') as cut_by_length,
       count(*) filter (verdict = 'unknown' and answer is null) as no_answer,
       mode(reason) filter (verdict = 'unknown') as most_common_reason
from rollouts
group by policy
order by policy
