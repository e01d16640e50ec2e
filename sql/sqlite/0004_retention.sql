-- Old rows of the log may go: those that stand in seals, up to the row that `pruned_seq` names.
-- The proof is a row `prune` in the log, sealed before the first of them is deleted; this column is
-- for the trigger alone.

ALTER TABLE registry ADD COLUMN pruned_seq INTEGER NOT NULL DEFAULT 0 CHECK (pruned_seq >= 0);

CREATE TRIGGER registry_pruned_grows BEFORE UPDATE ON registry
WHEN NEW.pruned_seq < OLD.pruned_seq
BEGIN
    SELECT RAISE(ABORT, 'dekhand: what was pruned from the log stays pruned');
END;

DROP TRIGGER key_rotation_log_stays;
CREATE TRIGGER key_rotation_log_stays BEFORE DELETE ON key_rotation_log
WHEN OLD.rowid > (SELECT pruned_seq FROM registry WHERE id = 1)
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the log is append-only');
END;
