#!/bin/sh
# The main job, from nothing to an answer: what `make demo` runs.
set -eu
show() { printf '\n$ %s\n' "$*"; "$@"; }

show openr-data label
show openr-data view arithmetic --errors --limit 3
show openr-data sql arithmetic "
  select level, count(distinct question_id) as questions, count(*) as labelled_steps,
         round(avg(value), 2) as mean_value, count(*) filter (label = -1) as first_errors
  from steps where label is not null group by level order by level"
