-- The same data key, and the registry's, under further master keys: what opens them when the first
-- one is away, or gone.

CREATE TABLE wraps (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    version integer NOT NULL CHECK (version > 0),
    provider text COLLATE "C" NOT NULL,
    kms_key_id text NOT NULL,
    encrypted_data_key text NOT NULL,
    context_timestamp text NOT NULL,
    last_verified_at timestamptz NOT NULL,
    row_mac text NOT NULL,
    PRIMARY KEY (tenant_id, version, provider)
);

CREATE INDEX wraps_verified ON wraps (last_verified_at);

CREATE TABLE registry_wraps (
    generation integer NOT NULL CHECK (generation > 0),
    provider text NOT NULL,
    kms_key_id text NOT NULL,
    encrypted_data_key text NOT NULL,
    context_timestamp text NOT NULL,
    PRIMARY KEY (generation, provider)
);

-- Another key takes the place only of one that was put by, as the next generation; another wrap of
-- the same key only where it stands among the further ones.
CREATE FUNCTION registry_moves() RETURNS trigger LANGUAGE plpgsql AS $$
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
    IF OLD.encrypted_data_key IS NOT NULL AND NEW.generation = OLD.generation
       AND (NEW.encrypted_data_key, NEW.provider, NEW.kms_key_id, NEW.context_timestamp)
           IS DISTINCT FROM
           (OLD.encrypted_data_key, OLD.provider, OLD.kms_key_id, OLD.context_timestamp)
    THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.registry_wraps WHERE generation = $1 AND '
                       'provider = $2 AND kms_key_id = $3 AND encrypted_data_key = $4 AND '
                       'context_timestamp = $5)', TG_TABLE_SCHEMA)
            INTO kept USING NEW.generation, NEW.provider, NEW.kms_key_id, NEW.encrypted_data_key,
                            NEW.context_timestamp;
    ELSIF OLD.encrypted_data_key IS NOT NULL AND NEW.generation <> OLD.generation THEN
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

DROP TRIGGER registry_key_once ON registry;
CREATE TRIGGER registry_key_once BEFORE UPDATE ON registry
    FOR EACH ROW EXECUTE FUNCTION registry_moves();

ALTER TABLE wraps ENABLE ROW LEVEL SECURITY;
ALTER TABLE wraps FORCE ROW LEVEL SECURITY;
ALTER TABLE registry_wraps ENABLE ROW LEVEL SECURITY;
ALTER TABLE registry_wraps FORCE ROW LEVEL SECURITY;
CREATE POLICY rw ON registry_wraps TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON wraps TO dekhand_rw
    USING (CASE WHEN current_setting('dekhand.scope', true) = 'all' THEN true
                ELSE tenant_id = current_tenant() END);
GRANT SELECT, INSERT, UPDATE, DELETE ON wraps, registry_wraps TO dekhand_rw;
