-- The three roles: none of them can log in; logins are made members. Run before the migrations, by
-- who may create roles; repeatable. Roles are those of all databases of a server, so another
-- database may make them at this moment: what somebody else made is as good.
DO $$
DECLARE
    name text;
    able text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET'
                      ELSE 'MEMBER' END;
BEGIN
    FOREACH name IN ARRAY ARRAY['dekhand_admin', 'dekhand_rw', 'dekhand_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE '
                               'NOREPLICATION NOBYPASSRLS', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name
                   AND (rolsuper OR rolbypassrls)) THEN
            RAISE EXCEPTION 'the role % is a superuser or has BYPASSRLS', name
                USING HINT = 'ALTER ROLE .. NOSUPERUSER NOBYPASSRLS';
        END IF;
    END LOOP;
    -- Who migrates is the owner for that time, and may use the registry.
    FOREACH name IN ARRAY ARRAY['dekhand_admin', 'dekhand_rw'] LOOP
        FOR attempt IN 1 .. 5 LOOP
            EXIT WHEN pg_has_role(current_user, name, able);
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER', name);
            EXCEPTION WHEN unique_violation OR internal_error THEN
                NULL; -- "tuple concurrently updated"
            END;
        END LOOP;
    END LOOP;
END $$;
