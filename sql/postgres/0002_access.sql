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
ALTER TABLE key_rotation_log_rest ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_rotation_log_rest FORCE ROW LEVEL SECURITY;
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
GRANT USAGE ON SEQUENCE key_rotation_log_number TO dekhand_rw;
GRANT SELECT, INSERT, UPDATE, DELETE ON nodes TO dekhand_rw;
GRANT SELECT ON key_rotation_health TO dekhand_rw;

-- An owner's view of the keys of the own tenant, for the signed-in users of Supabase: what the
-- server of the API has verified of the user's token stands in this setting. app_metadata alone:
-- user_metadata is what users write themselves. No tenant there, no rows.
CREATE FUNCTION owner_tenant() RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := nullif(current_setting('request.jwt.claims', true), '')::jsonb
                   -> 'app_metadata' ->> 'tenant_id';
BEGIN
    IF tenant ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        RETURN lower(tenant); -- as the registry writes them
    END IF;
    RETURN tenant;
END $$;

CREATE VIEW owner_keys WITH (security_invoker = true) AS
SELECT tenant_id, version, state, is_active, created_at, expires_at, rotated_at
FROM encryption_keys;

-- Functions that are made later are nobody's either; of tables that is so by itself.
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO dekhand_rw;

-- Nobody else; the roles of Supabase's API by name, where this is Supabase: a database may have
-- default privileges for them.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT 'public' UNION SELECT rolname FROM pg_catalog.pg_roles
                WHERE rolname IN ('anon', 'authenticated', 'service_role') LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', current_schema(), name);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %s', current_schema(), name);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM %s', current_schema(), name);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO authenticated', current_schema());
        GRANT SELECT ON owner_keys TO authenticated;
        GRANT SELECT (tenant_id, version, state, is_active, created_at, expires_at, rotated_at)
            ON encryption_keys TO authenticated;
        GRANT EXECUTE ON FUNCTION owner_tenant() TO authenticated;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies WHERE schemaname = current_schema()
                       AND policyname = 'owner') THEN
            CREATE POLICY owner ON encryption_keys FOR SELECT TO authenticated
                USING (tenant_id = (SELECT owner_tenant()));
        END IF;
    END IF;
END $$;
