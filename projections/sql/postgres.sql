-- Tables are named without a schema: the search path says which set of tables is meant.
-- Rows are found by joining a list of keys, never by `= any(list)`: in a plan that is kept for all lists that one compares
-- every row with every key where the planner takes the table for a small one.

-- name: mark
select position, epoch, digest, cluster_id, generation from positions
where topic = 'e' and partition = $1 and position > 0

-- name: marks
select partition, position, epoch, digest, cluster_id, generation from positions where topic = 'e' and position > 0

-- name: positions
select topic, partition, position from positions where position > 0

-- name: first_position
insert into positions (topic, partition, position, projection) values ($1, $2, 0, {projection}) on conflict do nothing

-- name: advance
update positions set position = $3, epoch = $4, digest = $5, cluster_id = $6, generation = $8
where topic = 'e' and partition = $1 and position = $2 and generation = $7 and projection = {projection}

-- name: advance_commands
update positions set position = $3
where topic = 't' and partition = $1 and position = $2 and projection = {projection}

-- name: lock_partition
select from positions where topic = 'e' and partition = $1 for update

-- name: position
select position, projection from positions where topic = $1 and partition = $2

-- name: projection
select max(projection) from positions

-- A whole small batch in one statement. Everything hangs on `moved`, the fence. One row comes back: 1, or 0 when the
-- tables stand elsewhere and nothing was written; a division by zero undoes it all when commands did not move or a run
-- that had begun has no row.
-- name: apply_small
with moved as (
    update positions set position = $3, epoch = $4, digest = $5, cluster_id = $6
    where topic = 'e' and partition = $1 and position = $2 and generation = $41 and projection = {projection}
    returning 1
), commands as (
    update positions set position = $8
    where topic = 't' and partition = $1 and position = $7 and projection = {projection} and exists (select from moved)
    returning 1
), facts as (
    insert into history (run_id, seq, type, log_offset, at_ms, value)
    select * from unnest($9::text[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::bytea[])
    where exists (select from moved)
), u as (
    select * from unnest(
        $15::text[], $16::int[], $17::bigint[], $18::bigint[], $19::bigint[], $20::text[], $21::boolean[], $22::bytea[],
        $23::int[], $24::text[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::text[], $30::bigint[],
        $31::text[], $32::json[], $33::json[], $34::json[], $35::json[], $36::text[], $37::bigint[], $38::text[], $39::text[]
    ) as u (
        run_id, partition, first_offset, last_offset, seq, digest, done, state, state_version, set_aside,
        began_ms, started_ms, ended_ms, last_ms,
        workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
    )
    where exists (select from moved)
), began as (
    insert into runs (
        run_id, partition, first_offset, last_offset, seq, digest, done, state, state_version, set_aside,
        began_ms, started_ms, ended_ms, last_ms,
        workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
    )
    select * from u where first_offset is not null
), gone as (
    delete from pending using u where pending.run_id = u.run_id and u.first_offset is not null
), known as (
    update runs set
        last_offset = u.last_offset, seq = u.seq, digest = u.digest, done = u.done,
        state = u.state, state_version = u.state_version, set_aside = u.set_aside,
        began_ms = u.began_ms, started_ms = u.started_ms, ended_ms = u.ended_ms, last_ms = u.last_ms,
        workflow_id = u.workflow_id, version = u.version, status = u.status, payload = u.payload, results = u.results,
        error = u.error, steps = u.steps, created_at = u.created_at, created_us = u.created_us,
        started_at = u.started_at, finished_at = u.finished_at
    from u
    where runs.run_id = u.run_id and u.first_offset is null
    returning 1
)
select (select count(*) from moved) / case
    when not exists (select from moved) then 1
    when (select count(*) from known) = $40::bigint and ($7::bigint is null or exists (select from commands)) then 1
    else 0
end

-- name: update_runs
update runs set
    last_offset = u.last_offset, seq = u.seq, digest = u.digest, done = u.done,
    state = u.state, state_version = u.state_version, set_aside = u.set_aside,
    began_ms = u.began_ms, started_ms = u.started_ms, ended_ms = u.ended_ms, last_ms = u.last_ms,
    workflow_id = u.workflow_id, version = u.version, status = u.status, payload = u.payload, results = u.results,
    error = u.error, steps = u.steps, created_at = u.created_at, created_us = u.created_us,
    started_at = u.started_at, finished_at = u.finished_at
from unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::bytea[], $7::int[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::text[], $14::bigint[], $15::text[], $16::json[], $17::json[], $18::json[], $19::json[], $20::text[], $21::bigint[],
    $22::text[], $23::text[]
) as u (
    run_id, last_offset, seq, digest, done, state, state_version, set_aside, began_ms, started_ms, ended_ms, last_ms,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
)
where runs.run_id = u.run_id

-- name: update_chains
update runs set
    last_offset = u.last_offset, seq = u.seq, digest = u.digest, done = u.done,
    state = u.state, state_version = u.state_version, set_aside = u.set_aside,
    began_ms = u.began_ms, started_ms = u.started_ms, ended_ms = u.ended_ms, last_ms = u.last_ms
from unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::bytea[], $7::int[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]
) as u (run_id, last_offset, seq, digest, done, state, state_version, set_aside, began_ms, started_ms, ended_ms, last_ms)
where runs.run_id = u.run_id

-- name: delete_pending
delete from pending using unnest($1::text[]) as gone (run_id) where pending.run_id = gone.run_id

-- name: insert_pending
insert into pending (run_id, partition, log_offset, workflow_id, version, payload, created_at, created_us)
select u.* from unnest(
    $1::text[], $2::int[], $3::bigint[], $4::text[], $5::bigint[], $6::json[], $7::text[], $8::bigint[]
) as u (run_id, partition, log_offset, workflow_id, version, payload, created_at, created_us)
where not exists (select from runs where runs.run_id = u.run_id)
order by log_offset
on conflict do nothing

-- name: tips
select partition, position, null::text as run_id, null::bigint as seq, null::text as digest, null::boolean as done
from positions where topic = 'e' and partition = any($1::int[])
union all
select partition, null, run_id, seq, digest, done from unnest($2::text[]) as wanted (run_id) join runs using (run_id)

-- A run that was set aside is folded from its history: this program may know how.
-- name: unfinished
select run_id, state, case when set_aside is null then state_version else 0 end
from runs where partition = $1 and not done

-- name: set_aside
select run_id, partition, seq, set_aside from runs where set_aside is not null and run_id > $1 order by run_id limit $2

-- name: count_set_aside
select count(*) from runs where set_aside is not null

-- name: clocks
select run_id, began_ms, started_ms, last_ms from runs where partition = $1 and not done

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

-- The moment is $1, in ms since 1970. A run exists as soon as it was asked for or its first event was logged.
-- fragment: status_then
case
    when began_ms is null or began_ms > $1 then 'PENDING'
    when ended_ms <= $1 then status
    when started_ms <= $1 then 'RUNNING'
    else 'PENDING'
end

-- name: list_then
select * from (select *, {status_then} as status_then from dated) as runs_then
where created_us > $2 and created_us < $3 and (created_us, run_id) < ($4, $5)
    and (created_us <= $1 * 1000 or began_ms <= $1) and ($7::text is null or status_then = $7)
order by created_us desc, run_id desc limit $6

-- name: list_then_by_workflow
select * from (select *, {status_then} as status_then from dated) as runs_then
where created_us > $2 and created_us < $3 and (created_us, run_id) < ($4, $5)
    and (created_us <= $1 * 1000 or began_ms <= $1) and ($7::text is null or status_then = $7) and workflow_id = $8
order by created_us desc, run_id desc limit $6

-- name: counts
select status, count(*) from (
    select status, created_us, workflow_id from runs union all select 'PENDING', created_us, workflow_id from pending
) as counted
where created_us > $1 and created_us < $2 and ($3::text is null or workflow_id = $3) group by status

-- name: counts_then
select status_then, count(*) from (select *, {status_then} as status_then from dated) as runs_then
where created_us > $2 and created_us < $3 and ($4::text is null or workflow_id = $4)
    and (created_us <= $1 * 1000 or began_ms <= $1)
group by status_then

-- name: standing
select done, state, case when set_aside is null then state_version else 0 end,
    value, at_ms, last_offset + 1, position
from runs
join history on history.run_id = runs.run_id and history.seq = runs.seq
join positions on positions.topic = 'e' and positions.partition = runs.partition
where runs.run_id = $1

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

-- name: rows
select run_id, partition, first_offset, last_offset, seq, digest, done, state, state_version, set_aside,
    began_ms, started_ms, ended_ms, last_ms,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
from unnest($1::text[]) as wanted (run_id) join runs using (run_id)

-- name: run_ids
select run_id from runs where partition = $1 and run_id > $2 order by run_id limit $3

-- name: rows_below
select count(*) from runs where partition = $1 and first_offset < $2

-- name: begun
select run_id from unnest($1::text[]) as wanted (run_id) join runs using (run_id)

-- name: waiting
select run_id, partition, log_offset, workflow_id, version, payload::text, created_at from pending where partition = $1

-- name: stray_history
select distinct run_id from history where not exists (select from runs where runs.run_id = history.run_id) limit 10

-- name: lock_migrations
select pg_advisory_xact_lock(hashtext('workflow migrations'))

-- name: migrations_table
create table if not exists migrations (number int primary key, applied_at timestamptz not null default now())

-- name: migrated
select max(number) from migrations

-- name: other_owner
select nspowner::regrole::text from pg_namespace where nspname = $1 and nspowner <> current_user::regrole

-- name: owner
select nspowner::regrole::text from pg_namespace where nspname = $1

-- Statements that grant on the schema $2 what is granted on the schema $1: on it, on its tables and views, and on single
-- columns, to whomever, by whomever. What the owner has as the owner is no grant.
-- name: grants_again
with granted as (
    select format('schema %I', $2::text) as what, privilege_type, grantee, is_grantable, nspowner as owner
    from pg_namespace, aclexplode(nspacl) where nspname = $1::text
    union all
    select format('table %I.%I', $2::text, relname), privilege_type, grantee, is_grantable, relowner
    from pg_class, aclexplode(relacl) where relnamespace = to_regnamespace($1::text) and relkind in ('r', 'p', 'v')
    union all
    select format('table %I.%I', $2::text, relname), format('%s (%I)', privilege_type, attname), grantee, is_grantable, relowner
    from pg_attribute join pg_class on pg_class.oid = attrelid, aclexplode(attacl)
    where relnamespace = to_regnamespace($1::text) and relkind in ('r', 'p', 'v')
)
select format('grant %s on %s to %s', privilege_type, what, case grantee when 0 then 'public' else grantee::regrole::text end)
    || case when is_grantable then ' with grant option' else '' end
from granted where grantee <> owner

-- name: set_migrated
insert into migrations (number) values ($1)

-- name: set_readable_from
update migrations set readable_from = $1 where number = (select max(number) from migrations)

-- Tables of the first versions do not say who can read them.
-- name: version
select max(number), max((to_jsonb(applied) ->> 'readable_from')::int) from migrations as applied

-- name: lock_positions
lock table positions in exclusive mode

-- name: stay_in_transaction
set local idle_in_transaction_session_timeout = 0
