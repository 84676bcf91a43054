-- What the release with tables of version 3 asks of them: its API and its workers. Newer tables must go on answering.

-- name: mark
select position, epoch, digest, cluster_id from positions
where topic = 'e' and partition = $1 and position > 0

-- name: positions
select topic, partition, position from positions where position > 0

-- name: tips
select partition, position, null::text as run_id, null::bigint as seq, null::text as digest, null::boolean as done
from positions where topic = 'e' and partition = any($1::int[])
union all
select partition, null, run_id, seq, digest, done from unnest($2::text[]) as wanted (run_id) join runs using (run_id)

-- name: unfinished
select run_id, state, state_version from runs where partition = $1 and not done

-- name: histories
select run_id, seq, type, log_offset, at_ms, value
from unnest($1::text[]) as wanted (run_id) join history using (run_id) order by run_id, seq

-- name: run
select * from listed where run_id = $1

-- name: list
select * from listed
where created_us > $1 and created_us < $2 and (created_us, run_id) < ($3, $4)
order by created_us desc, run_id desc limit $5

-- name: list_by_workflow
select * from listed
where created_us > $1 and created_us < $2 and (created_us, run_id) < ($3, $4) and workflow_id = $6
order by created_us desc, run_id desc limit $5

-- name: list_by_status
select * from listed
where created_us > $1 and created_us < $2 and (created_us, run_id) < ($3, $4) and status = $6
order by created_us desc, run_id desc limit $5

-- name: list_by_both
select * from listed
where created_us > $1 and created_us < $2 and (created_us, run_id) < ($3, $4) and workflow_id = $6 and status = $7
order by created_us desc, run_id desc limit $5

-- name: unfinished_of
select count(*) from (
    select * from (select 1 from pending where workflow_id = $1 limit $2) as waiting
    union all
    select * from (select 1 from runs where workflow_id = $1 and not done and set_aside is null limit $2) as begun
) as found

-- name: events_asc
select run_id, seq, type, log_offset, at_ms, value from history
where run_id = $1 and seq > $2 and seq < $3 and ($4::text[] = '{}' or type = any($4)) order by seq limit $5

-- name: events_desc
select run_id, seq, type, log_offset, at_ms, value from history
where run_id = $1 and seq > $2 and seq < $3 and ($4::text[] = '{}' or type = any($4)) order by seq desc limit $5
