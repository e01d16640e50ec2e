-- The registry: keys, tenants, history. The guide's names and columns, and what correctness adds.
-- Run in one transaction, with the schema alone in search_path, by its owner. Rows of keys and
-- tenants are never deleted; seals neither; the log only up to what `audit prune` has noted.

CREATE TABLE registry (
    id integer PRIMARY KEY CHECK (id = 1),
    registry_uuid uuid NOT NULL,
    schema_version integer NOT NULL,
    created_at timestamptz NOT NULL,
    provider text,
    kms_key_id text,
    encrypted_data_key text,
    context_timestamp text,
    -- rekeying: rows of tenants and keys may still be under the key before this one.
    generation integer NOT NULL DEFAULT 1 CHECK (generation > 0),
    rekeying boolean NOT NULL DEFAULT false,
    -- Log rows that stand in this seal, or in one before, may be deleted; they go up to that number.
    -- The proof is a row `prune` in the log; these columns are for the trigger alone.
    pruned_seal bigint NOT NULL DEFAULT 0 CHECK (pruned_seal >= 0),
    pruned_seq bigint NOT NULL DEFAULT 0 CHECK (pruned_seq >= 0),
    -- How many rows `cache-clear` the log was given: a number that is read with the row anyway.
    clears bigint NOT NULL DEFAULT 0 CHECK (clears >= 0),
    CHECK ((provider IS NULL) = (encrypted_data_key IS NULL)
           AND (kms_key_id IS NULL) = (encrypted_data_key IS NULL)
           AND (context_timestamp IS NULL) = (encrypted_data_key IS NULL))
);

-- Earlier keys, for what they made: the log and the seals are never rewritten.
CREATE TABLE registry_keys (
    generation integer PRIMARY KEY CHECK (generation > 0),
    provider text NOT NULL,
    kms_key_id text NOT NULL,
    encrypted_data_key text NOT NULL,
    context_timestamp text NOT NULL,
    last_seal bigint NOT NULL CHECK (last_seal > 0)
);

-- fillfactor: a row that changes finds room on its page (of messages that were counted, of heads).
-- log_head: the mac of the tenant's newest log row. keys_digest: over the MACs of all its key rows.
-- changed_xid: the transaction of the last change that others have to know of.
CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY CHECK (length(tenant_id) BETWEEN 1 AND 128),
    next_version bigint NOT NULL CHECK (next_version BETWEEN 1 AND 2147483648),
    epoch bigint NOT NULL CHECK (epoch > 0),
    rotation_days integer CHECK (rotation_days > 0),
    changed_xid xid8 NOT NULL,
    row_mac text NOT NULL,
    log_head text,
    keys_digest text
) WITH (fillfactor = 85);

CREATE INDEX tenants_changed ON tenants (changed_xid);

CREATE TABLE encryption_keys (
    id uuid PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    kms_key_id text NOT NULL,
    encrypted_data_key text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    is_active boolean GENERATED ALWAYS AS (state = 'active') STORED,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    rotated_at timestamptz,
    state text NOT NULL CHECK (state IN ('active', 'retired', 'disabled', 'purged')),
    provider text NOT NULL,
    context_timestamp text NOT NULL,
    check_value bytea NOT NULL UNIQUE CHECK (length(check_value) = 32),
    compromised_at timestamptz,
    disabled_at timestamptz,
    purged_at timestamptz,
    messages bigint NOT NULL DEFAULT 0 CHECK (messages >= 0),
    row_mac text NOT NULL,
    UNIQUE (tenant_id, version),
    CHECK ((state = 'purged') = (purged_at IS NOT NULL)),
    CHECK ((state = 'purged') = (encrypted_data_key = ''))
) WITH (fillfactor = 85);

CREATE UNIQUE INDEX encryption_keys_one_active ON encryption_keys (tenant_id)
    WHERE state = 'active';
CREATE INDEX encryption_keys_expiry ON encryption_keys (expires_at, tenant_id)
    WHERE state = 'active';

-- seq: the order of the rows of one chain. xid: the transaction that wrote the row.
CREATE SEQUENCE key_rotation_log_number;

CREATE TABLE key_rotation_log (
    seq bigint NOT NULL DEFAULT nextval('key_rotation_log_number'),
    id uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    operation text NOT NULL,
    from_version integer,
    to_version integer,
    success boolean NOT NULL DEFAULT true,
    error_message text,
    performed_at timestamptz NOT NULL,
    performed_by text,
    node text,
    detail text,
    prev text,
    mac text,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (id, performed_at)
) PARTITION BY RANGE (performed_at);

CREATE TABLE key_rotation_log_rest PARTITION OF key_rotation_log DEFAULT;

CREATE INDEX key_rotation_log_seq ON key_rotation_log (seq);
CREATE INDEX key_rotation_log_chain ON key_rotation_log (tenant_id, seq);
CREATE INDEX key_rotation_log_time ON key_rotation_log (performed_at);
CREATE INDEX key_rotation_log_xid ON key_rotation_log (xid);
CREATE INDEX key_rotation_log_failed ON key_rotation_log (performed_at) WHERE NOT success;

-- heads: one line for each chain that grew: `tenant <id> <epoch> <mac>` or `process <node> <mac>`.
-- snapshot, place: what was visible when the heads were read, on which timeline.
CREATE TABLE seals (
    n bigint PRIMARY KEY CHECK (n > 0),
    at timestamptz NOT NULL,
    heads text NOT NULL,
    prev text,
    mac text NOT NULL,
    snapshot pg_snapshot NOT NULL,
    place text NOT NULL,
    CHECK ((prev IS NULL) = (n = 1))
);

-- Who may do what only one process does at a time, and until when. The row is locked meanwhile.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL CHECK (fence > 0),
    until timestamptz NOT NULL
);

-- Processes that look at this registry regularly.
CREATE TABLE nodes (
    node text PRIMARY KEY,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

CREATE VIEW key_rotation_health WITH (security_invoker = true) AS
SELECT tenant_id, version, state, created_at, expires_at, rotated_at,
       floor(extract(epoch FROM expires_at - now()) / 86400)::integer AS days_until_expiration,
       CASE
           WHEN expires_at <= now() THEN 'EXPIRED'
           WHEN expires_at <= now() + interval '7 days' THEN 'WARNING'
           WHEN expires_at <= now() + interval '30 days' THEN 'NOTICE'
           ELSE 'OK'
       END AS health_status
FROM encryption_keys
WHERE state = 'active';

-- What the code would refuse, the database refuses too.

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'dekhand: %', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Another key takes the place only of one that was put by, as the next generation.
CREATE FUNCTION registry_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept boolean;
BEGIN
    IF NEW.pruned_seq < OLD.pruned_seq OR NEW.pruned_seal < OLD.pruned_seal THEN
        RAISE EXCEPTION 'dekhand: what was pruned from the log stays pruned'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.clears < OLD.clears THEN
        RAISE EXCEPTION 'dekhand: what was counted stays counted'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.encrypted_data_key IS NOT NULL
       AND (NEW.encrypted_data_key, NEW.provider, NEW.kms_key_id, NEW.context_timestamp,
            NEW.generation) IS DISTINCT FROM
           (OLD.encrypted_data_key, OLD.provider, OLD.kms_key_id, OLD.context_timestamp,
            OLD.generation)
    THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.registry_keys WHERE generation = $1 AND '
                       'provider = $2 AND kms_key_id = $3 AND encrypted_data_key = $4 AND '
                       'context_timestamp = $5)', TG_TABLE_SCHEMA)
            INTO kept USING OLD.generation, OLD.provider, OLD.kms_key_id, OLD.encrypted_data_key,
                            OLD.context_timestamp;
        kept := kept AND NOT OLD.rekeying AND NEW.generation = OLD.generation + 1
                AND NEW.encrypted_data_key IS DISTINCT FROM OLD.encrypted_data_key;
    ELSE
        kept := true;
    END IF;
    IF NOT kept OR NEW.id <> OLD.id
       OR (NEW.rekeying AND NOT OLD.rekeying AND NEW.generation = OLD.generation)
       OR (OLD.encrypted_data_key IS NOT NULL AND NEW.registry_uuid <> OLD.registry_uuid)
    THEN
        RAISE EXCEPTION 'dekhand: the registry has its key already'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER registry_key_once BEFORE UPDATE ON registry
    FOR EACH ROW EXECUTE FUNCTION registry_changes();
CREATE TRIGGER registry_stays BEFORE DELETE ON registry
    FOR EACH ROW EXECUTE FUNCTION refuse('the registry row is not deleted');

CREATE TRIGGER registry_keys_fixed BEFORE UPDATE ON registry_keys
    FOR EACH ROW EXECUTE FUNCTION refuse('an earlier registry key does not change');
CREATE TRIGGER registry_keys_stay BEFORE DELETE ON registry_keys
    FOR EACH ROW EXECUTE FUNCTION refuse('an earlier registry key is not deleted');

-- What moves a MAC alone is no change for others.
CREATE FUNCTION tenants_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.tenant_id <> OLD.tenant_id OR NEW.next_version < OLD.next_version
           OR NEW.epoch < OLD.epoch
        THEN
            RAISE EXCEPTION 'dekhand: versions and epochs of a tenant only grow'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF (NEW.next_version, NEW.epoch, NEW.rotation_days, NEW.log_head) IS NOT DISTINCT FROM
           (OLD.next_version, OLD.epoch, OLD.rotation_days, OLD.log_head)
        THEN
            NEW.changed_xid := OLD.changed_xid;
            RETURN NEW;
        END IF;
    END IF;
    NEW.changed_xid := pg_current_xact_id();
    RETURN NEW;
END $$;

CREATE TRIGGER tenants_grow BEFORE INSERT OR UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION tenants_change();
CREATE TRIGGER tenants_stay BEFORE DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION refuse('a tenant row is not deleted');

CREATE FUNCTION encryption_keys_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (NEW.state = OLD.state
            OR (OLD.state = 'active' AND NEW.state = 'retired')
            OR (OLD.state = 'retired' AND NEW.state = 'disabled')
            OR (OLD.state = 'disabled' AND NEW.state IN ('retired', 'purged')))
    THEN
        RAISE EXCEPTION 'dekhand: a key version cannot change its state like this'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id OR NEW.version <> OLD.version
       OR NEW.check_value <> OLD.check_value OR NEW.created_at <> OLD.created_at
       OR (OLD.compromised_at IS NOT NULL
           AND NEW.compromised_at IS DISTINCT FROM OLD.compromised_at)
       OR (OLD.rotated_at IS NOT NULL AND NEW.rotated_at IS DISTINCT FROM OLD.rotated_at)
       OR NEW.messages < OLD.messages
    THEN
        RAISE EXCEPTION 'dekhand: this column of a key version does not change'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER encryption_keys_fixed BEFORE UPDATE ON encryption_keys
    FOR EACH ROW EXECUTE FUNCTION encryption_keys_change();
CREATE TRIGGER encryption_keys_stay BEFORE DELETE ON encryption_keys
    FOR EACH ROW EXECUTE FUNCTION refuse('a key version is never deleted');

-- One change is allowed: a row without a mac takes its place in the chain. Old rows may go.
CREATE FUNCTION key_rotation_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    may_go boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.xid := pg_current_xact_id();
        IF NEW.operation = 'cache-clear' AND NEW.tenant_id = '*' THEN
            EXECUTE format('UPDATE %I.registry SET clears = clears + 1 WHERE id = 1',
                           TG_TABLE_SCHEMA);
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('SELECT pg_visible_in_snapshot($1, s.snapshot) FROM %1$I.registry r '
                       'JOIN %1$I.seals s ON s.n = r.pruned_seal', TG_TABLE_SCHEMA)
            INTO may_go USING OLD.xid;
        IF coalesce(may_go, false) THEN
            RETURN OLD;
        END IF;
    ELSIF OLD.mac IS NULL AND NEW.mac IS NOT NULL
          AND (NEW.seq, NEW.id, NEW.tenant_id, NEW.operation, NEW.from_version, NEW.to_version,
               NEW.success, NEW.error_message, NEW.performed_at, NEW.performed_by, NEW.node,
               NEW.detail) IS NOT DISTINCT FROM
              (OLD.seq, OLD.id, OLD.tenant_id, OLD.operation, OLD.from_version, OLD.to_version,
               OLD.success, OLD.error_message, OLD.performed_at, OLD.performed_by, OLD.node,
               OLD.detail)
    THEN
        NEW.xid := pg_current_xact_id();
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'dekhand: the log is append-only'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER key_rotation_log_fixed BEFORE INSERT OR UPDATE OR DELETE ON key_rotation_log
    FOR EACH ROW EXECUTE FUNCTION key_rotation_log_change();

CREATE TRIGGER seals_fixed BEFORE UPDATE ON seals
    FOR EACH ROW EXECUTE FUNCTION refuse('a seal does not change');
CREATE TRIGGER seals_stay BEFORE DELETE ON seals
    FOR EACH ROW EXECUTE FUNCTION refuse('a seal is not deleted');

CREATE TRIGGER registry_not_emptied BEFORE TRUNCATE ON registry
    EXECUTE FUNCTION refuse('the registry is not emptied');
CREATE TRIGGER registry_keys_not_emptied BEFORE TRUNCATE ON registry_keys
    EXECUTE FUNCTION refuse('the registry is not emptied');
CREATE TRIGGER tenants_not_emptied BEFORE TRUNCATE ON tenants
    EXECUTE FUNCTION refuse('the registry is not emptied');
CREATE TRIGGER encryption_keys_not_emptied BEFORE TRUNCATE ON encryption_keys
    EXECUTE FUNCTION refuse('the registry is not emptied');
CREATE TRIGGER key_rotation_log_not_emptied BEFORE TRUNCATE ON key_rotation_log
    EXECUTE FUNCTION refuse('the registry is not emptied');
CREATE TRIGGER seals_not_emptied BEFORE TRUNCATE ON seals
    EXECUTE FUNCTION refuse('the registry is not emptied');
