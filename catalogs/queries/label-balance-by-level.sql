-- Good, neutral and bad steps by level and method.
select level, method, count(*) as steps,
       round(avg((label = 1)::int), 3) as good, round(avg((label = 0)::int), 3) as neutral,
       round(avg((label = -1)::int), 3) as bad
from steps
where label is not null
group by level, method
order by level, method
