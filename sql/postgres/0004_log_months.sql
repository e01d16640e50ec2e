-- The log in months: what is old goes a month at a time, and what is read is what is asked for.
-- Each `dekhand migrate` makes the months to come, and takes away those that a prune has emptied; so
-- may the owner, from a scheduler of the database: SELECT dekhand.keep_log_months(12).

-- A new part locks the whole for a moment: who waits for that longer than a second lets it be.
-- Rows of a month that has no table of its own stand in key_rotation_log_rest: nothing depends on it
-- that this is called in time. A month whose rows are there already is left as it is.
CREATE FUNCTION keep_log_months(ahead integer) RETURNS integer LANGUAGE plpgsql
    SET search_path FROM CURRENT SET lock_timeout = '1s' AS $$
DECLARE
    month date;
    part text;
    made integer := 0;
BEGIN
    PERFORM set_config('timezone', 'UTC', true);
    FOR i IN 0..ahead LOOP
        month := (date_trunc('month', now()) + i * interval '1 month')::date;
        part := 'key_rotation_log_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I PARTITION OF key_rotation_log FOR VALUES FROM (%L) TO '
                           '(%L)', part, month, (month + interval '1 month')::date);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
            made := made + 1;
        EXCEPTION WHEN check_violation OR lock_not_available THEN
            NULL; -- the next call makes it
        END;
    END LOOP;
    -- A trigger for each statement is not handed down from the whole to its parts.
    FOR part IN SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
                WHERE h.inhparent = 'key_rotation_log'::regclass AND NOT EXISTS (
                    SELECT FROM pg_trigger WHERE tgrelid = c.oid
                    AND tgname = 'key_rotation_log_not_emptied') LOOP
        EXECUTE format('CREATE TRIGGER key_rotation_log_not_emptied BEFORE TRUNCATE ON %I '
                       'EXECUTE FUNCTION refuse(%L)', part, 'the registry is not emptied');
    END LOOP;
    -- Nobody but dekhand_rw sees rows; that there are none shows in a file of no length, which is
    -- what vacuum leaves when all of them were deleted.
    FOR part IN SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
                WHERE h.inhparent = 'key_rotation_log'::regclass
                      AND c.relname ~ '^key_rotation_log_[0-9]{4}_[0-9]{2}$' LOOP
        CONTINUE WHEN to_date(right(part, 7), 'YYYY_MM') >= date_trunc('month', now())::date
                      OR pg_relation_size(to_regclass(part)) > 0;
        BEGIN
            LOCK TABLE key_rotation_log IN ACCESS EXCLUSIVE MODE; -- and its parts
            IF pg_relation_size(to_regclass(part)) = 0 THEN
                EXECUTE format('DROP TABLE %I', part);
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END LOOP;
    RETURN made;
END $$;

REVOKE ALL ON FUNCTION keep_log_months(integer) FROM PUBLIC;
