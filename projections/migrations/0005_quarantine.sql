-- Raised when the rows of a partition were changed at the same position: a projector then loads them again.
alter table positions add column generation int not null default 0;
-- Runs that the projection could not fold, for people.
create index runs_set_aside on runs (run_id) where set_aside is not null;
