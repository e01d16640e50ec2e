"""`make bench-postgres`: the figures of PostgreSQL, on a server that is started for them and stopped.

Unlike the tests' it keeps what it says: fsync, full pages and synchronous commits are on, as they
are where nobody says otherwise. What follows PROGRAM goes to `dekhand bench`.
"""

import os
import subprocess
import sys
from pathlib import Path

import servers

SETTINGS = """
fsync = on
full_page_writes = on
synchronous_commit = on
max_wal_size = 1GB
shared_buffers = 256MB
shared_preload_libraries = 'pg_stat_statements'
"""


def main(program, out, *options):
    with servers.Postgres.started(SETTINGS) as server:
        found = subprocess.run([program, "bench", "--postgres", "--json", *options],
                               env={**os.environ, "DATABASE_URL": server.url()},
                               stdout=subprocess.PIPE, check=False)
    if found.returncode == 0:
        Path(out).write_bytes(found.stdout)
        sys.stdout.buffer.write(found.stdout)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
