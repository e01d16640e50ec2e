-- Who sees what. dekhand_rw works on the rows of the tenant that its transaction is about, or on
-- all of them where it says so (dekhand.scope). Nobody else sees a row, the owner included.

-- The setting reads '' and not NULL once a transaction had set it: both mean that it is not set.
CREATE FUNCTION current_tenant() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    tenant text := current_setting('dekhand.tenant', true);
BEGIN
    IF coalesce(tenant, '') = '' THEN
        RAISE EXCEPTION 'dekhand.tenant is not set in this transaction'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'SET LOCAL dekhand.tenant, or dekhand.scope = ''all'' for work on all';
    END IF;
    RETURN tenant;
END $$;

ALTER TABLE registry ENABLE ROW LEVEL SECURITY;
ALTER TABLE registry FORCE ROW LEVEL SECURITY;
ALTER TABLE registry_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE registry_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE encryption_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE encryption_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE key_rotation_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_rotation_log FORCE ROW LEVEL SECURITY;
ALTER TABLE seals ENABLE ROW LEVEL SECURITY;
ALTER TABLE seals FORCE ROW LEVEL SECURITY;
ALTER TABLE leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE leases FORCE ROW LEVEL SECURITY;
ALTER TABLE nodes ENABLE ROW LEVEL SECURITY;
ALTER TABLE nodes FORCE ROW LEVEL SECURITY;

CREATE POLICY rw ON registry TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON registry_keys TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON seals TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON leases TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON nodes TO dekhand_rw USING (true) WITH CHECK (true);
CREATE POLICY rw ON tenants TO dekhand_rw
    USING (CASE WHEN current_setting('dekhand.scope', true) = 'all' THEN true
                ELSE tenant_id = current_tenant() END);
CREATE POLICY rw ON encryption_keys TO dekhand_rw
    USING (CASE WHEN current_setting('dekhand.scope', true) = 'all' THEN true
                ELSE tenant_id = current_tenant() END);
CREATE POLICY rw ON key_rotation_log TO dekhand_rw
    USING (CASE WHEN current_setting('dekhand.scope', true) = 'all' THEN true
                ELSE tenant_id = current_tenant() END);

GRANT SELECT, INSERT, UPDATE ON registry, tenants, encryption_keys, leases TO dekhand_rw;
GRANT SELECT, INSERT ON registry_keys, seals TO dekhand_rw;
GRANT SELECT, INSERT, DELETE ON key_rotation_log TO dekhand_rw;
GRANT UPDATE (prev, mac) ON key_rotation_log TO dekhand_rw;
GRANT SELECT, INSERT, UPDATE, DELETE ON nodes TO dekhand_rw;
GRANT SELECT ON key_rotation_health TO dekhand_rw;

REVOKE ALL ON FUNCTION refuse(), registry_changes(), tenants_change(), encryption_keys_change(),
    key_rotation_log_change(), current_tenant() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO dekhand_rw;
