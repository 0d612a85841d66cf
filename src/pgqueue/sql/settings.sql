-- What @settings@ stands for in the functions: they do the same whoever calls them, and whatever the statistics say.
--
-- Names, operators and types mean what they meant here. No temporary table and no operator in a schema of
-- the caller's can come in between. (Functions with a parsed body, BEGIN ATOMIC, need no settings: their names are
-- resolved already, and they are inlined.)
set search_path = pg_catalog, pg_temp
-- Each statement has one plan, by index. A worker that polls an empty queue plans for an empty table, and kept that
-- plan while the next jobs came in: with 150,000 of them a claim of one took 84 ms (a sequential scan
-- and a sort) until the next analyze, against 1 ms. The generic plan, made once per session, also spares
-- planning each call anew: 270 us, two fifths of a claim of one job. All settings together cost 0.3 us a call.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
-- Where a sequential scan is the only way, its fictitious cost must not call the compiler.
set jit = off
