-- What each process needs of the tables, and no more. To be run by their owner, after each `workflow migrate`:
-- workflow grants --api NAME --worker NAME --projector NAME | psql …
-- or as it stands: psql --set=api=NAME --set=worker=NAME --set=projector=NAME --file=roles.sql …

-- name: grants
begin;
grant usage on schema workflow to :"api", :"worker", :"projector";

-- The version of the tables, looked at by each process when it starts.
grant select on workflow.migrations to :"api", :"worker", :"projector";

-- Reads for people.
grant select on workflow.positions, workflow.runs, workflow.history, workflow.pending, workflow.listed to :"api";
grant select on workflow.dated to :"api";

-- The snapshot, and whether a start has become a run before.
grant select on workflow.positions, workflow.runs, workflow.history to :"worker";

-- Facts are added and never changed; a waiting command goes when its run begins.
grant select on workflow.positions, workflow.runs, workflow.history, workflow.pending, workflow.listed to :"projector";
grant insert on workflow.positions, workflow.runs, workflow.history, workflow.pending to :"projector";
grant update on workflow.positions, workflow.runs to :"projector";
grant delete on workflow.pending to :"projector";

-- A rebuild is asked for, looked at and cancelled on its board; only the owner of the tables can carry it out.
grant usage on schema workflow_board to :"api", :"projector";
grant select on workflow_board.rebuild to :"api", :"projector";
grant insert on workflow_board.rebuild to :"api", :"projector";
grant update on workflow_board.rebuild to :"api", :"projector";
commit;
