-- Where the tables stand in each partition: topic 'e' is workflow.events, 't' is workflow.trigger.
-- The row is the fence between two projectors: whoever moves it writes. `projection`: which of those that releases make
-- from the same log; only its own release moves it. `generation`: raised when rows were changed at the same position.
create table positions (
    topic text not null,
    partition int not null,
    position bigint not null,
    epoch bigint not null default 0,
    digest text,
    cluster_id text not null default '',
    projection int not null default 1001,
    generation int not null default 0,
    primary key (topic, partition)
) with (fillfactor = 50);

-- One row per run. The columns down to set_aside need the envelopes alone; the rest is what people see. The last four are
-- when it began, first ran, ended and last moved, by the log's time in ms since 1970, for looks at the past.
create table runs (
    run_id text collate "C" primary key,
    partition int not null,
    first_offset bigint not null,
    last_offset bigint not null,
    seq bigint not null,
    digest text not null,
    done boolean not null,
    state bytea,
    state_version int not null,
    set_aside text,
    workflow_id text collate "C" not null default '',
    version bigint,
    status text not null default 'PENDING',
    payload json not null default 'null',
    results json not null default '{}',
    error json,
    steps json not null default '[]',
    created_at text not null default '',
    created_us bigint not null default 0,
    started_at text,
    finished_at text,
    began_ms bigint not null default 0,
    started_ms bigint,
    ended_ms bigint,
    last_ms bigint not null default 0
) with (fillfactor = 85);

-- Every fact, as its bytes stand in the log. The column offset is a reserved word, hence log_offset.
create table history (
    run_id text collate "C" not null,
    seq bigint not null,
    type text not null,
    log_offset bigint not null,
    at_ms bigint not null,
    value bytea not null,
    primary key (run_id, seq)
);

-- Commands that have not become runs yet; a row goes with its run's first event.
create table pending (
    run_id text collate "C" primary key,
    partition int not null,
    log_offset bigint not null,
    workflow_id text collate "C" not null,
    version bigint,
    payload json not null,
    created_at text not null,
    created_us bigint not null
);
-- Newest first, as lists show them; each index ends in the order of the list.
create index runs_created on runs (created_us desc, run_id desc);
create index runs_workflow on runs (workflow_id, created_us desc, run_id desc);
create index runs_status on runs (status, created_us desc, run_id desc);
create index runs_unfinished on runs (partition) where not done;
create index pending_created on pending (created_us desc, run_id desc);

-- Runs and waiting commands as one list.
create view listed as
select run_id, partition, 'e'::text as place, last_offset + 1 as next_offset, seq, set_aside,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at
from runs
union all
select run_id, partition, 't'::text, log_offset + 1, 0::bigint, null::text,
    workflow_id, version, 'PENDING'::text, payload, '{}'::json, null::json, '[]'::json, created_at, created_us, null::text, null::text
from pending;
-- How many runs of a workflow have not ended is asked while it is started.
create index runs_open on runs (workflow_id) where not done;
create index pending_workflow on pending (workflow_id);
-- Runs that the projection could not fold, for people.
create index runs_set_aside on runs (run_id) where set_aside is not null;

-- `listed` with these times; a command that has not become a run yet has none.
create view dated as
select run_id, partition, 'e'::text as place, last_offset + 1 as next_offset, seq, set_aside,
    workflow_id, version, status, payload, results, error, steps, created_at, created_us, started_at, finished_at,
    began_ms, started_ms, ended_ms, last_ms
from runs
union all
select run_id, partition, 't'::text, log_offset + 1, 0::bigint, null::text,
    workflow_id, version, 'PENDING'::text, payload, '{}'::json, null::json, '[]'::json, created_at, created_us, null::text, null::text,
    null::bigint, null::bigint, null::bigint, null::bigint
from pending;
