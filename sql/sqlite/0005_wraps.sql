-- The same data key, and the registry's, under further master keys: what opens them when the first
-- one is away, or gone.

CREATE TABLE wraps (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 2147483647),
    provider TEXT NOT NULL,
    kms_key_id TEXT NOT NULL,
    encrypted_data_key TEXT NOT NULL,
    context_timestamp TEXT NOT NULL,
    last_verified_at TEXT NOT NULL,
    row_mac TEXT NOT NULL,
    PRIMARY KEY (tenant_id, version, provider)
);

CREATE INDEX wraps_verified ON wraps (last_verified_at);

CREATE TABLE registry_wraps (
    generation INTEGER NOT NULL CHECK (generation > 0),
    provider TEXT NOT NULL,
    kms_key_id TEXT NOT NULL,
    encrypted_data_key TEXT NOT NULL,
    context_timestamp TEXT NOT NULL,
    PRIMARY KEY (generation, provider)
);

-- Another key takes the place only of one that was put by, as the next generation; another wrap of
-- the same key only where it stands among the further ones.
DROP TRIGGER registry_key_once;
CREATE TRIGGER registry_key_once BEFORE UPDATE ON registry
WHEN NEW.id IS NOT OLD.id OR (NEW.rekeying > OLD.rekeying AND NEW.generation = OLD.generation)
     OR (OLD.encrypted_data_key IS NOT NULL AND NEW.registry_uuid IS NOT OLD.registry_uuid)
     OR (OLD.encrypted_data_key IS NOT NULL
         AND (NEW.encrypted_data_key IS NOT OLD.encrypted_data_key
              OR NEW.provider IS NOT OLD.provider OR NEW.kms_key_id IS NOT OLD.kms_key_id
              OR NEW.context_timestamp IS NOT OLD.context_timestamp
              OR NEW.generation IS NOT OLD.generation)
         AND NOT (NEW.encrypted_data_key IS NOT OLD.encrypted_data_key
                  AND NEW.generation = OLD.generation + 1 AND OLD.rekeying = 0
                  AND EXISTS (SELECT 1 FROM registry_keys
                              WHERE generation = OLD.generation AND provider = OLD.provider
                                    AND kms_key_id = OLD.kms_key_id
                                    AND encrypted_data_key = OLD.encrypted_data_key
                                    AND context_timestamp = OLD.context_timestamp))
         AND NOT (NEW.generation = OLD.generation
                  AND EXISTS (SELECT 1 FROM registry_wraps
                              WHERE generation = NEW.generation AND provider = NEW.provider
                                    AND kms_key_id = NEW.kms_key_id
                                    AND encrypted_data_key = NEW.encrypted_data_key
                                    AND context_timestamp = NEW.context_timestamp)))
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the registry has its key already');
END;
