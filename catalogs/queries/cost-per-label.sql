-- What the labels of each labeling job cost: policy calls, tokens and seconds, in all and per located first error.
select job_id, config->>'method' as method, config->>'policy' as policy,
       (totals->>'labelled')::bigint as labelled, (totals->>'located')::bigint as first_errors,
       (totals->>'calls')::bigint as calls, (totals->>'tokens')::bigint as tokens,
       round((totals->>'calls')::double / nullif((totals->>'located')::bigint, 0), 1) as calls_per_first_error,
       round((totals->>'tokens')::double / nullif((totals->>'located')::bigint, 0)) as tokens_per_first_error,
       round((totals->>'seconds')::double, 1) as seconds
from jobs
where kind = 'label' and event = 'end'
order by "at"
