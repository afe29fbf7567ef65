-- Steps that two methods label differently, the clearest first.
with labelled as (
    select solution_id, question_id, method, unnest(label) as label, unnest(value) as value,
           unnest(range(len(label))) as step_index
    from labels
)
select a.method as method, b.method as other, a.label as label, b.label as other_label,
       round(a.value, 3) as value, round(b.value, 3) as other_value, a.step_index, a.solution_id,
       s.steps[a.step_index + 1] as step
from labelled a
join labelled b on a.solution_id = b.solution_id and a.step_index = b.step_index and a.method < b.method
join (select solution_id, any_value(steps) as steps from solutions group by solution_id) s
  on s.solution_id = a.solution_id
where a.label <> b.label
order by abs(coalesce(a.value, 0) - coalesce(b.value, 0)) desc, a.solution_id, a.step_index
limit 100
