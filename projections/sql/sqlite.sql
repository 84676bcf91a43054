-- name: mark
select position, epoch, digest, cluster_id, generation from positions where topic = 'e' and partition = ? and position > 0

-- name: marks
select partition, position, epoch, digest, cluster_id, generation from positions where topic = 'e' and position > 0

-- name: positions
select topic, partition, position from positions where position > 0

-- name: first_position
insert into positions (topic, partition, position, projection) values (?, ?, 0, {projection}) on conflict do nothing

-- name: advance
update positions set position = ?, epoch = ?, digest = ?, cluster_id = ?, generation = ?
where topic = 'e' and partition = ? and position = ? and generation = ? and projection = {projection}

-- name: raise_generation
update positions set generation = ? where topic = 'e' and partition = ? and position > 0

-- name: advance_commands
update positions set position = ?
where topic = 't' and partition = ? and position = ? and projection = {projection}

-- name: position
select position, projection from positions where topic = ? and partition = ?

-- name: projection
select max(projection) from positions

-- name: insert_run
insert into runs (
    run_id, partition, first_offset, last_offset, seq, digest, done, state, state_version, set_aside,
    began_ms, started_ms, ended_ms, last_ms,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: update_run
update runs set
    last_offset = ?, seq = ?, digest = ?, done = ?, state = ?, state_version = ?, set_aside = ?,
    began_ms = ?, started_ms = ?, ended_ms = ?, last_ms = ?,
    workflow_id = ?, version = ?, status = ?, payload = ?, results = ?, error = ?, steps = ?,
    created_at = ?, created_us = ?, started_at = ?, finished_at = ?
where run_id = ?

-- name: insert_history
insert into history (run_id, seq, type, log_offset, at_ms, value) values (?, ?, ?, ?, ?, ?)

-- name: delete_pending
delete from pending where run_id = ?

-- name: insert_pending
insert into pending (run_id, partition, log_offset, workflow_id, version, payload, created_at, created_us)
select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 where not exists (select 1 from runs where run_id = ?1)
on conflict do nothing

-- name: tips
select run_id, seq, digest, done from runs where partition = ? and run_id in (select value from json_each(?))

-- A run that was set aside is folded from its history: this program may know how.
-- name: unfinished
select run_id, state, case when set_aside is null then state_version else 0 end
from runs where partition = ? and not done

-- name: set_aside
select run_id, partition, seq, set_aside from runs where set_aside is not null and run_id > ? order by run_id limit ?

-- name: count_set_aside
select count(*) from runs where set_aside is not null

-- name: clocks
select run_id, began_ms, started_ms, last_ms from runs where partition = ? and not done

-- name: histories
select run_id, seq, type, log_offset, at_ms, value from history
where run_id in (select value from json_each(?)) order by run_id, seq

-- name: run
select * from listed where run_id = ?

-- name: list
select * from listed
where created_us > ?1 and created_us < ?2 and (created_us, run_id) < (?3, ?4)
order by created_us desc, run_id desc limit ?5

-- name: list_by_workflow
select * from listed
where created_us > ?1 and created_us < ?2 and (created_us, run_id) < (?3, ?4) and workflow_id = ?6
order by created_us desc, run_id desc limit ?5

-- name: list_by_status
select * from listed
where created_us > ?1 and created_us < ?2 and (created_us, run_id) < (?3, ?4) and status = ?6
order by created_us desc, run_id desc limit ?5

-- name: list_by_both
select * from listed
where created_us > ?1 and created_us < ?2 and (created_us, run_id) < (?3, ?4) and workflow_id = ?6 and status = ?7
order by created_us desc, run_id desc limit ?5

-- The moment is ?1, in ms since 1970. A run exists as soon as it was asked for or its first event was logged.
-- fragment: status_then
case
    when began_ms is null or began_ms > ?1 then 'PENDING'
    when ended_ms <= ?1 then status
    when started_ms <= ?1 then 'RUNNING'
    else 'PENDING'
end

-- name: list_then
select * from (select *, {status_then} as status_then from dated) as runs_then
where created_us > ?2 and created_us < ?3 and (created_us, run_id) < (?4, ?5)
    and (created_us <= ?1 * 1000 or began_ms <= ?1) and (?7 is null or status_then = ?7)
order by created_us desc, run_id desc limit ?6

-- name: list_then_by_workflow
select * from (select *, {status_then} as status_then from dated) as runs_then
where created_us > ?2 and created_us < ?3 and (created_us, run_id) < (?4, ?5)
    and (created_us <= ?1 * 1000 or began_ms <= ?1) and (?7 is null or status_then = ?7) and workflow_id = ?8
order by created_us desc, run_id desc limit ?6

-- name: counts
select status, count(*) from (
    select status, created_us, workflow_id from runs union all select 'PENDING', created_us, workflow_id from pending
) as counted
where created_us > ?1 and created_us < ?2 and (?3 is null or workflow_id = ?3) group by status

-- name: counts_then
select status_then, count(*) from (select *, {status_then} as status_then from dated) as runs_then
where created_us > ?2 and created_us < ?3 and (?4 is null or workflow_id = ?4)
    and (created_us <= ?1 * 1000 or began_ms <= ?1)
group by status_then

-- name: standing
select done, state, case when set_aside is null then state_version else 0 end,
    value, at_ms, last_offset + 1, position
from runs
join history on history.run_id = runs.run_id and history.seq = runs.seq
join positions on positions.topic = 'e' and positions.partition = runs.partition
where runs.run_id = ?

-- name: unfinished_of
select count(*) from (
    select * from (select 1 from pending where workflow_id = ?1 limit ?2) as waiting
    union all
    select * from (select 1 from runs where workflow_id = ?1 and not done and set_aside is null limit ?2) as begun
) as found

-- name: events_asc
select run_id, seq, type, log_offset, at_ms, value from history
where run_id = ?1 and seq > ?2 and seq < ?3 and (?4 = '[]' or type in (select value from json_each(?4)))
order by seq limit ?5

-- name: events_desc
select run_id, seq, type, log_offset, at_ms, value from history
where run_id = ?1 and seq > ?2 and seq < ?3 and (?4 = '[]' or type in (select value from json_each(?4)))
order by seq desc limit ?5

-- name: rows
select run_id, partition, first_offset, last_offset, seq, digest, done, state, state_version, set_aside,
    began_ms, started_ms, ended_ms, last_ms,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
from runs where run_id in (select value from json_each(?))

-- name: run_ids
select run_id from runs where partition = ? and run_id > ? order by run_id limit ?

-- name: rows_below
select count(*) from runs where partition = ? and first_offset < ?

-- name: begun
select run_id from json_each(?) join runs on run_id = value

-- name: waiting
select run_id, partition, log_offset, workflow_id, version, payload, created_at from pending where partition = ?

-- name: stray_history
select distinct run_id from history where not exists (select 1 from runs where runs.run_id = history.run_id) limit 10

-- name: retire
alter table positions rename to positions_when_replaced
