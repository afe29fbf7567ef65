-- Questions on which the fewest rollouts are correct, with a Wilson interval.
select any_value(q.question) as question, any_value(q.level) as level, policy,
       count(*) filter (verdict = 'correct') as correct, count(*) filter (verdict <> 'unknown') as graded,
       round(soft_label(count(*) filter (verdict = 'correct'), count(*) filter (verdict <> 'unknown')), 3) as rate,
       round(wilson_low(count(*) filter (verdict = 'correct'), count(*) filter (verdict <> 'unknown')), 3) as low,
       round(wilson_high(count(*) filter (verdict = 'correct'), count(*) filter (verdict <> 'unknown')), 3) as high,
       question_id
from rollouts join questions q using (question_id)
group by question_id, policy
having graded > 0
order by rate, graded desc, question_id
limit 50
