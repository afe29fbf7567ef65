-- Questions that occur more than once, apart from case, spaces and punctuation.
select count(*) as times, list(distinct source) as sources, list(distinct split) as splits,
       list(distinct answer) as answers, any_value(question) as question, list(question_id) as question_ids
from questions
group by regexp_replace(lower(question), '[^\p{L}\p{N}]+', '', 'g')
having count(*) > 1
order by times desc, question
limit 100
