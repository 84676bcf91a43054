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
