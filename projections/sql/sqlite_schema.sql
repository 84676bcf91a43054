-- The same tables as PostgreSQL's (projections/schema.sql says what they mean), in one file per set.
begin immediate;
create table if not exists positions (
    topic text not null,
    partition integer not null,
    position integer not null,
    epoch integer not null default 0,
    digest text,
    cluster_id text not null default '',
    projection integer not null default 1001,
    generation integer not null default 0,
    primary key (topic, partition)
) strict, without rowid;
create table if not exists runs (
    run_id text primary key,
    partition integer not null,
    first_offset integer not null,
    last_offset integer not null,
    seq integer not null,
    digest text not null,
    done integer not null,
    state blob,
    state_version integer not null,
    set_aside text,
    workflow_id text not null default '',
    version integer,
    status text not null default 'PENDING',
    payload text not null default 'null',
    results text not null default '{}',
    error text,
    steps text not null default '[]',
    created_at text not null default '',
    created_us integer not null default 0,
    started_at text,
    finished_at text,
    began_ms integer not null default 0,
    started_ms integer,
    ended_ms integer,
    last_ms integer not null default 0
) strict;
create index if not exists runs_created on runs (created_us desc, run_id desc);
create index if not exists runs_workflow on runs (workflow_id, created_us desc, run_id desc);
create index if not exists runs_status on runs (status, created_us desc, run_id desc);
create index if not exists runs_unfinished on runs (partition) where not done;
create table if not exists history (
    run_id text not null,
    seq integer not null,
    type text not null,
    log_offset integer not null,
    at_ms integer not null,
    value blob not null,
    primary key (run_id, seq)
) strict;
create table if not exists pending (
    run_id text primary key,
    partition integer not null,
    log_offset integer not null,
    workflow_id text not null,
    version integer,
    payload text not null,
    created_at text not null,
    created_us integer not null
) strict;
create index if not exists pending_created on pending (created_us desc, run_id desc);
create index if not exists runs_open on runs (workflow_id) where not done;
create index if not exists pending_workflow on pending (workflow_id);
create index if not exists runs_set_aside on runs (run_id) where set_aside is not null;
create view if not exists listed as
select run_id, partition, 'e' as place, last_offset + 1 as next_offset, seq, set_aside,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
from runs
union all
select run_id, partition, 't', log_offset + 1, 0, null,
    workflow_id, version, 'PENDING', payload, '{}', null, '[]', created_at, created_us, null, null
from pending;
create view if not exists dated as
select run_id, partition, 'e' as place, last_offset + 1 as next_offset, seq, set_aside,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at,
    began_ms, started_ms, ended_ms, last_ms
from runs
union all
select run_id, partition, 't', log_offset + 1, 0, null,
    workflow_id, version, 'PENDING', payload, '{}', null, '[]', created_at, created_us, null, null,
    null, null, null, null
from pending;
pragma user_version = 2;
commit;
