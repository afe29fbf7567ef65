-- Questions of one split that also occur in another, apart from case, spaces and punctuation.
with named as (
    select question_id, question, source, split,
           regexp_replace(lower(question), '[^\p{L}\p{N}]+', '', 'g') as plain
    from questions
)
select a.split as split, b.split as other_split, a.question as question, a.source as source, b.source as other_source,
       a.question_id as question_id, b.question_id as other_question_id
from named a join named b on a.plain = b.plain and a.split < b.split
order by a.split, b.split, a.question
limit 100
