-- How often the providers were asked, by day: what a bill is compared with.

CREATE TABLE call_counts (
    day TEXT NOT NULL CHECK (length(day) = 10),
    source TEXT NOT NULL,
    operation TEXT NOT NULL,
    calls INTEGER NOT NULL CHECK (calls >= 0),
    failed INTEGER NOT NULL CHECK (failed >= 0),
    PRIMARY KEY (day, source, operation)
);
