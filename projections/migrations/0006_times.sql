-- When a run began, first ran, ended and last moved, by the log's time in ms since 1970, for looks at the past.
alter table runs
    add column began_ms bigint not null default 0,
    add column started_ms bigint,
    add column ended_ms bigint,
    add column last_ms bigint not null default 0;

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
