"""The SQL of the KMS implementation guide runs on PostgreSQL, or docs/GUIDE.md says what to run."""

import csv
import re
import subprocess

import pytest

from cli_tool import ROOT, Cli
from servers import new_database, psql

pytestmark = pytest.mark.release

GUIDE = (ROOT / "docs" / "GUIDE.md").read_text()
BEFORE = "SET search_path = dekhand;"
ACME = "6f1c1b5e-0000-4000-8000-00000000000a"

# As printed in the guide, but for the tenant's name.
RECENT = """
-- View recent key operations
SELECT
  operation,
  tenant_id,
  from_version,
  to_version,
  success,
  performed_at
FROM key_rotation_log
ORDER BY performed_at DESC
LIMIT 100;
"""
BY_TYPE = """
-- Count operations by type
SELECT
  operation,
  COUNT(*) as count,
  SUM(CASE WHEN success THEN 1 ELSE 0 END) as successful,
  SUM(CASE WHEN NOT success THEN 1 ELSE 0 END) as failed
FROM key_rotation_log
WHERE performed_at > NOW() - INTERVAL '7 days'
GROUP BY operation;
"""
DASHBOARD = """
-- Key rotation health dashboard
SELECT * FROM key_rotation_health
ORDER BY
  CASE health_status
    WHEN 'EXPIRED' THEN 1
    WHEN 'WARNING' THEN 2
    WHEN 'NOTICE' THEN 3
    ELSE 4
  END;
"""
INTEGRITY = """
-- Verify key table integrity
SELECT
  COUNT(*) as total_keys,
  COUNT(DISTINCT tenant_id) as unique_tenants,
  SUM(CASE WHEN is_active THEN 1 ELSE 0 END) as active_keys
FROM encryption_keys;
"""
ORPHANS = """
-- Check for orphaned keys
SELECT ek.*
FROM encryption_keys ek
LEFT JOIN organizations o ON o.id = ek.tenant_id
WHERE o.id IS NULL;
"""
BACKUP = """
-- Export encrypted keys (safe to backup)
COPY (
  SELECT
    tenant_id,
    kms_key_id,
    encrypted_data_key,
    version,
    created_at,
    expires_at
  FROM encryption_keys
  WHERE is_active = TRUE
) TO '/backup/encryption_keys.csv' WITH CSV HEADER;
"""
STATUS = """
-- Check key status
SELECT * FROM encryption_keys
WHERE tenant_id = 'tenant-uuid'
ORDER BY version DESC;
"""
# Its two tables: the columns, and what a query may take them for.
TABLES = {
    "encryption_keys": {
        "id": "uuid", "tenant_id": "uuid", "kms_key_id": "text", "encrypted_data_key": "text",
        "version": "integer", "is_active": "boolean", "created_at": "timestamp with time zone",
        "expires_at": "timestamp with time zone", "rotated_at": "timestamp with time zone"},
    "key_rotation_log": {
        "id": "uuid", "tenant_id": "uuid", "operation": "text", "from_version": "integer",
        "to_version": "integer", "success": "boolean", "error_message": "text",
        "performed_at": "timestamp with time zone", "performed_by": "uuid"},
}
# A tenant and an actor have names here, which need not be UUIDs.
NAMES = {("encryption_keys", "tenant_id"), ("key_rotation_log", "tenant_id"),
         ("key_rotation_log", "performed_by")}
UNIQUE_WHERE = "CREATE TEMP TABLE t (tenant_id uuid, is_active boolean, " \
               "UNIQUE(tenant_id, is_active) WHERE is_active = TRUE);"


@pytest.fixture(scope="module")
def registry(postgres, tmp_path_factory):
    """Two tenants; one is no organisation of the application any more."""
    with new_database(postgres) as url:
        cli = Cli(tmp_path_factory.mktemp("guide"), DATABASE_URL=url)
        cli.ok("init")
        for tenant in (ACME, "globex"):
            cli.ok("encrypt", "--tenant", tenant, stdin=b"x")
        cli.ok("rotate", "--tenant", ACME)
        psql(url, "CREATE TABLE public.organizations (id uuid PRIMARY KEY);"
                  f"INSERT INTO public.organizations VALUES ('{ACME}');"
                  "GRANT SELECT ON public.organizations TO PUBLIC")
        yield url


def reader(text, before=BEFORE):
    """As docs/GUIDE.md says to read: dekhand_rw, all tenants."""
    return f"SET ROLE dekhand_rw; SET dekhand.scope = 'all'; {before}\n{text}"


def rows(registry, text, before=BEFORE):
    """A superuser, and a member of dekhand_rw, see the same."""
    found = psql(registry, reader(text, before))
    assert psql(registry, before + text) == found
    return [line.split("|") for line in found.splitlines()]


def refused(registry, text):
    with pytest.raises(subprocess.CalledProcessError) as error:
        psql(registry, reader(text))
    return error.value.stderr


def instead(what):
    """The statement that docs/GUIDE.md has for this row, ready to run."""
    line = next(line for line in GUIDE.splitlines() if line.startswith(f"| {what}"))
    return re.search(r"Instead: `([^`]+)`", line).group(1)


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_have_the_columns_of_the_guide(registry, table):
    found = dict(rows(registry, "SELECT column_name, data_type FROM information_schema.columns "
                                f"WHERE table_schema = 'dekhand' AND table_name = '{table}'"))
    for column, kind in TABLES[table].items():
        assert found[column] == ("text" if (table, column) in NAMES else kind), column


def test_the_tables_as_printed_are_no_sql(registry):
    assert "syntax error" in refused(registry, UNIQUE_WHERE)
    assert "`dekhand migrate`" in next(line for line in GUIDE.splitlines()
                                       if line.startswith("| `20251017_kms_key_management.sql`"))


def test_recent_operations(registry):
    found = rows(registry, RECENT)
    assert {tuple(row[:5]) for row in found} >= {("create", ACME, "", "1", "t"),
                                                 ("create", "globex", "", "1", "t"),
                                                 ("rotate", ACME, "1", "2", "t")}
    assert [row[5] for row in found] == sorted((row[5] for row in found), reverse=True)


def test_operations_by_type(registry):
    found = {row[0]: row[1:] for row in rows(registry, BY_TYPE)}
    assert found["create"] == ["2", "2", "0"] and found["rotate"] == ["1", "1", "0"]


def test_dashboard(registry):
    found = rows(registry, DASHBOARD)
    assert {(row[0], row[-1]) for row in found} == {(ACME, "OK"), ("globex", "OK")}


def test_integrity_of_the_key_table(registry):
    assert rows(registry, INTEGRITY) == [["3", "2", "2"]]


def test_status_of_a_tenants_keys(registry):
    assert rows(registry, STATUS) == []
    found = rows(registry, STATUS.replace("tenant-uuid", ACME))
    assert [row[4] for row in found] == ["2", "1"]


def test_orphaned_keys(registry):
    """As printed where organisations have ids of text; with UUIDs as docs/GUIDE.md says."""
    both = "SET search_path = dekhand, public;"
    with pytest.raises(subprocess.CalledProcessError) as error:
        psql(registry, reader(ORPHANS, both))
    assert "operator does not exist: uuid = text" in error.value.stderr
    found = rows(registry, instead("SQL, orphaned keys"), both)
    assert [row[1] for row in found] == ["globex"]
    texts = "CREATE TEMP TABLE organizations AS SELECT id::text FROM public.organizations;"
    assert [row[1] for row in rows(registry, ORPHANS, texts + both)] == ["globex"]


def test_backup_as_a_copy(registry, tmp_path):
    assert "pg_write_server_files" in refused(registry, BACKUP)
    text = instead("Backup: `COPY")
    assert text.startswith("\\copy ")
    target = tmp_path / "encryption_keys.csv"
    psql(registry, reader(text.replace("'encryption_keys.csv'", f"'{target}'")))
    with open(target, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert {(row["tenant_id"], row["version"]) for row in found} == {
        (ACME, "1"), (ACME, "2"), ("globex", "1")}
    assert all(row["encrypted_data_key"] and row["context_timestamp"] for row in found)
    # To standard output as printed, but for the place.
    told = psql(registry, reader(BACKUP.replace("'/backup/encryption_keys.csv'", "STDOUT")))
    assert told.splitlines()[0] == "tenant_id,kms_key_id,encrypted_data_key,version,created_at," \
                                   "expires_at"


def test_who_says_nothing_of_tenants_is_told_so(registry):
    with pytest.raises(subprocess.CalledProcessError) as error:
        psql(registry, f"SET ROLE dekhand_rw; {BEFORE} {INTEGRITY}")
    assert "dekhand.tenant is not set" in error.value.stderr
