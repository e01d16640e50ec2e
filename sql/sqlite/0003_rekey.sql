-- The registry's key can be replaced. What it made stays: the log and the seals are never rewritten,
-- so each earlier key is kept, wrapped, with the last seal that is under it.

-- rekeying: rows of tenants and keys may still be under the key before this one.
ALTER TABLE registry ADD COLUMN generation INTEGER NOT NULL DEFAULT 1 CHECK (generation > 0);
ALTER TABLE registry ADD COLUMN rekeying INTEGER NOT NULL DEFAULT 0 CHECK (rekeying IN (0, 1));

CREATE TABLE registry_keys (
    generation INTEGER PRIMARY KEY CHECK (generation > 0),
    provider TEXT NOT NULL,
    kms_key_id TEXT NOT NULL,
    encrypted_data_key TEXT NOT NULL,
    context_timestamp TEXT NOT NULL,
    last_seal INTEGER NOT NULL CHECK (last_seal > 0)
);

CREATE TRIGGER registry_keys_once BEFORE INSERT ON registry_keys
WHEN EXISTS (SELECT 1 FROM registry_keys WHERE generation = NEW.generation)
BEGIN
    SELECT RAISE(ABORT, 'dekhand: an earlier registry key is not replaced');
END;

CREATE TRIGGER registry_keys_fixed BEFORE UPDATE ON registry_keys
BEGIN
    SELECT RAISE(ABORT, 'dekhand: an earlier registry key does not change');
END;

CREATE TRIGGER registry_keys_stay BEFORE DELETE ON registry_keys
BEGIN
    SELECT RAISE(ABORT, 'dekhand: an earlier registry key is not deleted');
END;

-- Another key takes the place only of one that was put by, as the next generation.
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
                                    AND context_timestamp = OLD.context_timestamp)))
BEGIN
    SELECT RAISE(ABORT, 'dekhand: the registry has its key already');
END;
