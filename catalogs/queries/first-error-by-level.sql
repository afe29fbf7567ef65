-- How many processes have a wrong step, and how many steps precede it, by level.
select q.level, l.method, count(*) as label_sets, count(l.first_error) as with_error,
       round(avg((l.first_error is not null)::int), 3) as error_rate,
       round(avg(l.first_error + 1), 2) as mean_first_error, round(avg(len(l.label)), 2) as mean_steps
from labels l join questions q using (question_id)
group by q.level, l.method
order by q.level, l.method
