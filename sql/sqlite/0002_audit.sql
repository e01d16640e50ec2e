-- The log becomes a chain for each tenant and each process, and seals hold the heads of all chains.
-- Rows that are there already are chained by `dekhand init`, which has the registry key.

-- log_head: the mac of the tenant's newest log row. keys_digest: over the MACs of all its key rows.
ALTER TABLE tenants ADD COLUMN log_head TEXT;
ALTER TABLE tenants ADD COLUMN keys_digest TEXT;

ALTER TABLE key_rotation_log ADD COLUMN prev TEXT;
ALTER TABLE key_rotation_log ADD COLUMN mac TEXT;

-- An index ends with the rowid: the rows of a tenant in the order in which they were written.
CREATE INDEX key_rotation_log_chain ON key_rotation_log (tenant_id);
CREATE INDEX key_rotation_log_unchained ON key_rotation_log (tenant_id) WHERE mac IS NULL;

-- One change is allowed: a row without a mac takes its place in the chain.
DROP TRIGGER key_rotation_log_fixed;
CREATE TRIGGER key_rotation_log_fixed BEFORE UPDATE ON key_rotation_log
WHEN OLD.mac IS NOT NULL OR NEW.mac IS NULL OR NEW.rowid IS NOT OLD.rowid OR NEW.id IS NOT OLD.id
     OR NEW.tenant_id IS NOT OLD.tenant_id OR NEW.operation IS NOT OLD.operation
     OR NEW.from_version IS NOT OLD.from_version OR NEW.to_version IS NOT OLD.to_version
     OR NEW.success IS NOT OLD.success OR NEW.error_message IS NOT OLD.error_message
     OR NEW.performed_at IS NOT OLD.performed_at OR NEW.performed_by IS NOT OLD.performed_by
     OR NEW.node IS NOT OLD.node OR NEW.detail IS NOT OLD.detail
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the log is append-only');
END;

-- heads: one line for each chain that grew: `tenant <id> <epoch> <mac>` or `process <node> <mac>`.
CREATE TABLE seals (
    n INTEGER PRIMARY KEY CHECK (n > 0),
    at TEXT NOT NULL,
    heads TEXT NOT NULL,
    prev TEXT,
    mac TEXT NOT NULL,
    CHECK ((prev IS NULL) = (n = 1))
);

CREATE TRIGGER seals_once BEFORE INSERT ON seals
WHEN EXISTS (SELECT 1 FROM seals WHERE n = NEW.n)
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a seal is not replaced');
END;

CREATE TRIGGER seals_fixed BEFORE UPDATE ON seals
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a seal does not change');
END;

CREATE TRIGGER seals_stay BEFORE DELETE ON seals
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a seal is not deleted');
END;
