-- How many key versions there are, and when they expire, known without reading them: each change
-- adds what it changes, and who seals folds that into one row for each quarter of an hour.

CREATE TABLE key_counts (
    bucket timestamptz PRIMARY KEY,
    active bigint NOT NULL,
    total bigint NOT NULL
);

CREATE TABLE key_count_deltas (
    bucket timestamptz NOT NULL,
    active bigint NOT NULL,
    total bigint NOT NULL
);

CREATE FUNCTION count_bucket(at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT date_bin('15 minutes', at, timestamptz '1970-01-01 00:00:00+00')
$$;

CREATE FUNCTION count_new_keys() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO key_count_deltas
        SELECT count_bucket(expires_at), count(*) FILTER (WHERE state = 'active'), count(*)
        FROM fresh GROUP BY 1;
    RETURN NULL;
END $$;

CREATE FUNCTION count_changed_key() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO key_count_deltas VALUES
        (count_bucket(OLD.expires_at), -(OLD.state = 'active')::integer, -1),
        (count_bucket(NEW.expires_at), (NEW.state = 'active')::integer, 1);
    RETURN NULL;
END $$;

CREATE TRIGGER encryption_keys_counted AFTER INSERT ON encryption_keys
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION count_new_keys();
CREATE TRIGGER encryption_keys_recounted AFTER UPDATE ON encryption_keys FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION count_changed_key();

ALTER TABLE key_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_counts FORCE ROW LEVEL SECURITY;
ALTER TABLE key_count_deltas ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_count_deltas FORCE ROW LEVEL SECURITY;
CREATE POLICY rw ON key_counts TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON key_count_deltas TO dekhand_rw USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON key_counts TO dekhand_rw;
GRANT SELECT, INSERT, DELETE ON key_count_deltas TO dekhand_rw;
REVOKE ALL ON FUNCTION count_bucket(timestamptz), count_new_keys(), count_changed_key() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION count_bucket(timestamptz) TO dekhand_rw;
