-- The position of the first wrong step: how often each one occurs, and where it is as a share of the process.
select method, first_error as step_index, count(*) as label_sets,
       round(count(*) / sum(count(*)) over (partition by method), 3) as share,
       round(avg((first_error + 1) / len(label)), 2) as mean_place
from labels
where first_error is not null
group by method, first_error
order by method, step_index
