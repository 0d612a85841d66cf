-- A job's attempt history with one more entry: the last 20 attempts, each with a bounded error.
-- `error` is {"class", "message", "traceback"}; any of them may be missing. Of a traceback the end is
-- kept, where the cause stands.
create or replace function @extschema@._history(
    history jsonb, attempt integer, started timestamptz, ended timestamptz, worker text, outcome text, error jsonb
) returns jsonb
language sql stable
begin atomic
    select coalesce(
        case when jsonb_array_length(history) >= 20 then history - 0 else history end, '[]'
    ) || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
        'attempt', attempt, 'started', started, 'ended', ended, 'worker', worker, 'outcome', outcome,
        'error_class', left(error ->> 'class', 200),
        'error', left(error ->> 'message', 1000),
        'traceback', right(error ->> 'traceback', 4000)
    )));
end;
