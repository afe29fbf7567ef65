-- Steps on which a reward model and a method's labels disagree at a score of 0.5, the clearest first.
select reward, method, label, round(value, 3) as value, round(score, 3) as score, step_index, n_steps, solution_id, step
from step_scores
where label in (1, -1) and (label = 1) <> (score >= 0.5)
order by abs(score - 0.5) desc, reward, method, solution_id, step_index
limit 100
