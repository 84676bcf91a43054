-- How many runs of a workflow have not ended is asked while it is started.
create index runs_open on runs (workflow_id) where not done;
create index pending_workflow on pending (workflow_id);
