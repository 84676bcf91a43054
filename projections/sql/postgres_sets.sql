-- Sets of tables: which there are, how one is filled, how two are compared, and what their rebuild has come to.

-- The board of a rebuild; `board` stands for its schema.
-- name: board_table
create table if not exists board.rebuild (number int primary key default 1 check (number = 1), document text not null)

-- name: lock_board
lock table board.rebuild in share row exclusive mode

-- name: board_and_time
select (select document from board.rebuild), extract(epoch from clock_timestamp())::float8

-- name: time
select extract(epoch from clock_timestamp())::float8

-- name: board_there
select to_regclass($1) is not null, extract(epoch from clock_timestamp())::float8

-- name: write_board
insert into board.rebuild (document) values ($1) on conflict (number) do update set document = excluded.document

-- By the name that the schema has now: that of the transaction's own view may be another set's meanwhile.
-- name: look_at
select set_config('search_path', $1::oid::regnamespace::text, true)

-- What a set that is being filled goes without, each as what makes it and what takes it away.
-- name: unneeded
select format('alter table %I add constraint %I %s', relname, conname, pg_get_constraintdef(pg_constraint.oid)) as make,
    format('alter table %I drop constraint %I', relname, conname) as take
from pg_constraint join pg_class on pg_class.oid = conrelid
where connamespace = to_regnamespace($1) and contype = 'p' and relname = 'history'
union all
select pg_get_indexdef(indexrelid), format('drop index %I', relname)
from pg_index join pg_class on pg_class.oid = indexrelid
where relnamespace = to_regnamespace($1) and not indisunique and relname <> 'runs_unfinished'

-- What divides the table of events as an installation has divided it; nothing where it has not. The new key comes when the
-- old table, whose key has its name, is gone.
-- name: divided
with history as (
    select oid from pg_class where relnamespace = to_regnamespace($1) and relname = 'history' and relkind = 'p'
), parts as (
    select level, part.relname, parent.relname as parent, pg_get_expr(part.relpartbound, part.oid) as bound,
        coalesce(' partition by ' || pg_get_partkeydef(part.oid), '') as further, ' tablespace ' || quote_ident(spcname) as place
    from history, pg_partition_tree(history.oid) join pg_class as part on part.oid = relid
    left join pg_class as parent on parent.oid = parentrelid left join pg_tablespace as space on space.oid = part.reltablespace
), steps as (
    select -3 as step, 'alter table history rename to undivided' as statement from history
    union all
    select -2, 'create table history (like undivided including all excluding indexes) partition by '
        || pg_get_partkeydef(oid) from history
    union all
    select -1, 'drop table undivided' from history
    union all
    select 0, format('alter table history add constraint %I %s', conname, pg_get_constraintdef(pg_constraint.oid))
    from history join pg_constraint on conrelid = history.oid and contype = 'p'
    union all
    select level, format('create table %I partition of %I %s', relname, parent, bound) || further || coalesce(place, '')
    from parts where level > 0
)
select statement from steps order by step, statement

-- name: unbuilt_table
create table if not exists unbuilt (make text not null)

-- name: put_unbuilt
insert into unbuilt (make) values ($1)

-- While projectors wait: a process that is frozen or cut off must not hold them up for ever.
-- name: wait_in_transaction
set local idle_in_transaction_session_timeout = '60s'

-- The new tables stand for the old ones: a projector that knows those meets the fence, and loads these. At position 0
-- there is nothing to know, and no generation.
-- name: follow
update new.positions as n set generation = o.generation + 1
from old.positions as o where o.topic = n.topic and o.partition = n.partition and n.position > 0

-- name: has
select to_regnamespace($1) is not null

-- name: sets
select nspname from pg_namespace where starts_with(nspname, $1 || '_second')

-- Few rows of two whole sets come back: any join will do, and the tables were never analysed.
-- name: join_as_you_like
set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on; set local work_mem = '64MB'

-- Two sets side by side, for the queries that follow: $1 the partitions, $2 the version of the fold, $3 how a refusal begins.
-- What was refused in both stands still in both, at one time or another.
-- name: differing
with old_history as (
    select run_id, count(*) as events, bit_xor(hash_record_extended(row(seq, type, log_offset, at_ms, value), 0)) as facts
    from old.history group by run_id
), new_history as (
    select run_id, count(*) as events, bit_xor(hash_record_extended(row(seq, type, log_offset, at_ms, value), 0)) as facts
    from new.history group by run_id
), o as (
    select runs.*, starts_with(coalesce(set_aside, ''), $3) as refused, events, facts
    from old.runs left join old_history using (run_id) where partition = any($1::int[])
), n as (
    select runs.*, starts_with(coalesce(set_aside, ''), $3) as refused, events, facts
    from new.runs left join new_history using (run_id) where partition = any($1::int[])
), side_by_side as (
    select coalesce(o.run_id, n.run_id) as run_id, o.run_id is null as missing, n.run_id is null as extra,
        {chain} and o.events is not distinct from n.events and o.facts is not distinct from n.facts
        and (o.state_version between 1 and $2 - 1 or {state}) and (o.refused and n.refused or {shown}) as same
    from o full join n on o.run_id = n.run_id
)

-- name: count_differences
select count(*) filter (where same), count(*) filter (where not (same or missing or extra)),
    count(*) filter (where missing), count(*) filter (where extra)
from side_by_side

-- name: first_differences
select run_id from side_by_side where missing or extra or not same limit $4
