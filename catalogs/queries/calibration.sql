-- Monte-Carlo values of one method against the hard labels of another on the same steps, in tenths.
with valued as (
    select solution_id, method, unnest(value) as value, unnest(range(len(value))) as step_index
    from labels
), judged as (
    select solution_id, method, unnest(label) as label, unnest(range(len(label))) as step_index
    from labels
)
select v.method as values_of, j.method as labels_of, least(floor(v.value * 10), 9)::int / 10 as from_value,
       count(*) as steps, round(avg(v.value), 3) as mean_value, round(avg((j.label = 1)::int), 3) as good
from valued v join judged j on v.solution_id = j.solution_id and v.step_index = j.step_index and v.method <> j.method
where v.value is not null and j.label is not null
group by all
order by values_of, labels_of, from_value
