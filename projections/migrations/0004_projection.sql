-- Which projection, of those that releases make from the same log, a partition's rows are of. Only its own release moves it.
alter table positions add column projection int not null default 1001;
-- The oldest version of the tables whose programs can read these.
alter table migrations add column readable_from int not null default 0;
