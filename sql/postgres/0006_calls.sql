-- How often the providers were asked, by day: what a bill is compared with.

CREATE TABLE call_counts (
    day text COLLATE "C" NOT NULL CHECK (length(day) = 10),
    source text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    calls bigint NOT NULL CHECK (calls >= 0),
    failed bigint NOT NULL CHECK (failed >= 0),
    PRIMARY KEY (day, source, operation)
);

ALTER TABLE call_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY rw ON call_counts TO dekhand_rw USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON call_counts TO dekhand_rw;
