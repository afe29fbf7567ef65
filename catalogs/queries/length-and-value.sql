-- Whether long steps have lower values: steps by length in characters.
select method, case when length(step) < 40 then '   0 to 39' when length(step) < 80 then '  40 to 79'
                    when length(step) < 160 then '  80 to 159' when length(step) < 320 then ' 160 to 319'
                    else ' 320 and more' end as characters,
       count(*) as steps, round(avg(value), 3) as mean_value, round(avg((label = -1)::int), 3) as bad
from steps
where label is not null
group by all
order by method, characters
