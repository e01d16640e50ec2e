-- The registry: keys, tenants, history. The guide's names and columns, and what correctness adds.
-- Timestamps are TEXT 'YYYY-MM-DDTHH:MM:SS.ffffffZ'. Rows of keys and of the log are never deleted.

CREATE TABLE registry (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    registry_uuid TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    provider TEXT,
    kms_key_id TEXT,
    encrypted_data_key TEXT,
    context_timestamp TEXT,
    CHECK ((provider IS NULL) = (encrypted_data_key IS NULL)
           AND (kms_key_id IS NULL) = (encrypted_data_key IS NULL)
           AND (context_timestamp IS NULL) = (encrypted_data_key IS NULL))
);

-- A registry has one key: a second would make every row's MAC wrong.
CREATE TRIGGER registry_key_once BEFORE UPDATE ON registry
WHEN OLD.encrypted_data_key IS NOT NULL
     AND (NEW.encrypted_data_key IS NOT OLD.encrypted_data_key
          OR NEW.registry_uuid IS NOT OLD.registry_uuid)
     OR NEW.id IS NOT OLD.id
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the registry has its key already');
END;

-- REPLACE, in an INSERT or an UPDATE, takes rows away without a DELETE trigger. So an INSERT beside
-- a row that is there is passed over, and no row changes its place.
CREATE TRIGGER registry_once BEFORE INSERT ON registry
WHEN EXISTS (SELECT 1 FROM registry)
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER registry_stays BEFORE DELETE ON registry
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the registry row is not deleted');
END;

CREATE TABLE tenants (
    tenant_id TEXT PRIMARY KEY NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    next_version INTEGER NOT NULL CHECK (next_version BETWEEN 1 AND 2147483648),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    rotation_days INTEGER CHECK (rotation_days > 0),
    changed_xid INTEGER NOT NULL,
    row_mac TEXT NOT NULL
);

CREATE INDEX tenants_changed ON tenants (changed_xid);

CREATE TRIGGER tenants_once BEFORE INSERT ON tenants
WHEN EXISTS (SELECT 1 FROM tenants WHERE tenant_id = NEW.tenant_id OR rowid = NEW.rowid)
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER tenants_grow BEFORE UPDATE ON tenants
WHEN NEW.rowid IS NOT OLD.rowid OR NEW.tenant_id IS NOT OLD.tenant_id OR NEW.next_version < OLD.next_version
     OR NEW.epoch < OLD.epoch OR NEW.changed_xid < OLD.changed_xid
BEGIN
    SELECT RAISE(ABORT, 'dekhand: versions and epochs of a tenant only grow');
END;

CREATE TRIGGER tenants_stay BEFORE DELETE ON tenants
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a tenant row is not deleted');
END;

CREATE TABLE encryption_keys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    kms_key_id TEXT NOT NULL,
    encrypted_data_key TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 2147483647),
    is_active INTEGER GENERATED ALWAYS AS (state = 'active') VIRTUAL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    rotated_at TEXT,
    state TEXT NOT NULL CHECK (state IN ('active', 'retired', 'disabled', 'purged')),
    provider TEXT NOT NULL,
    context_timestamp TEXT NOT NULL,
    check_value BLOB NOT NULL UNIQUE CHECK (length(check_value) = 32),
    compromised_at TEXT,
    disabled_at TEXT,
    purged_at TEXT,
    messages INTEGER NOT NULL DEFAULT 0 CHECK (messages >= 0),
    row_mac TEXT NOT NULL,
    UNIQUE (tenant_id, version),
    CHECK ((state = 'purged') = (purged_at IS NOT NULL)),
    CHECK ((state = 'purged') = (encrypted_data_key = ''))
);

CREATE UNIQUE INDEX encryption_keys_one_active ON encryption_keys (tenant_id)
    WHERE state = 'active';
CREATE INDEX encryption_keys_expiry ON encryption_keys (expires_at) WHERE state = 'active';

-- The state table of the code, again: what the code would refuse, the database refuses too.
CREATE TRIGGER encryption_keys_state BEFORE UPDATE OF state ON encryption_keys
WHEN NOT (NEW.state = OLD.state
          OR (OLD.state = 'active' AND NEW.state = 'retired')
          OR (OLD.state = 'retired' AND NEW.state = 'disabled')
          OR (OLD.state = 'disabled' AND NEW.state IN ('retired', 'purged')))
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a key version cannot change its state like this');
END;

CREATE TRIGGER encryption_keys_once BEFORE INSERT ON encryption_keys
WHEN EXISTS (SELECT 1 FROM encryption_keys WHERE id = NEW.id OR rowid = NEW.rowid)
     OR EXISTS (SELECT 1 FROM encryption_keys WHERE check_value = NEW.check_value)
     OR EXISTS (SELECT 1 FROM encryption_keys
                WHERE tenant_id = NEW.tenant_id AND version = NEW.version)
     OR (NEW.state = 'active'
         AND EXISTS (SELECT 1 FROM encryption_keys
                     WHERE tenant_id = NEW.tenant_id AND state = 'active'))
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER encryption_keys_fixed BEFORE UPDATE ON encryption_keys
WHEN NEW.rowid IS NOT OLD.rowid OR NEW.id IS NOT OLD.id OR NEW.tenant_id IS NOT OLD.tenant_id
     OR NEW.version IS NOT OLD.version OR NEW.check_value IS NOT OLD.check_value
     OR NEW.created_at IS NOT OLD.created_at
     OR (OLD.compromised_at IS NOT NULL AND NEW.compromised_at IS NOT OLD.compromised_at)
     OR (OLD.rotated_at IS NOT NULL AND NEW.rotated_at IS NOT OLD.rotated_at)
     OR NEW.messages < OLD.messages
BEGIN
    SELECT RAISE(ABORT, 'dekhand: this column of a key version does not change');
END;

CREATE TRIGGER encryption_keys_stay BEFORE DELETE ON encryption_keys
BEGIN
    SELECT RAISE(ABORT, 'dekhand: a key version is never deleted');
END;

CREATE TABLE key_rotation_log (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    from_version INTEGER,
    to_version INTEGER,
    success INTEGER NOT NULL DEFAULT 1 CHECK (success IN (0, 1)),
    error_message TEXT,
    performed_at TEXT NOT NULL,
    performed_by TEXT,
    node TEXT,
    detail TEXT
);

CREATE INDEX key_rotation_log_tenant ON key_rotation_log (tenant_id, performed_at);
CREATE INDEX key_rotation_log_time ON key_rotation_log (performed_at);

CREATE TRIGGER key_rotation_log_once BEFORE INSERT ON key_rotation_log
WHEN EXISTS (SELECT 1 FROM key_rotation_log WHERE id = NEW.id OR rowid = NEW.rowid)
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the log is append-only');
END;

CREATE TRIGGER key_rotation_log_fixed BEFORE UPDATE ON key_rotation_log
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the log is append-only');
END;

CREATE TRIGGER key_rotation_log_stays BEFORE DELETE ON key_rotation_log
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the log is append-only');
END;

CREATE VIEW key_rotation_health AS
SELECT tenant_id, version, state, created_at, expires_at, rotated_at,
       CAST(floor(julianday(expires_at) - julianday('now')) AS INTEGER) AS days_until_expiration,
       CASE
           WHEN julianday(expires_at) <= julianday('now') THEN 'EXPIRED'
           WHEN julianday(expires_at) <= julianday('now') + 7 THEN 'WARNING'
           WHEN julianday(expires_at) <= julianday('now') + 30 THEN 'NOTICE'
           ELSE 'OK'
       END AS health_status
FROM encryption_keys
WHERE state = 'active';
