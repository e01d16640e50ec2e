"""Programs that run once more with their registries elsewhere (DEKHAND_TEST_STORE).

`postgres` is a server, `pooled` the same one behind PgBouncer in transaction mode. The contract
suite of the stores runs on SQLite and PostgreSQL in one program, in every build.
"""

POSTGRES = (
    "scenario/both_test", "unit/counts_test", "unit/manager_test", "unit/registry_test",
    "scenario/audit_test", "scenario/clock_test", "scenario/first_use_test", "scenario/fork_test",
    "scenario/health_test", "scenario/host_test", "scenario/kill_test", "scenario/lease_test",
    "scenario/process_test", "scenario/prune_test", "scenario/rekey_test", "scenario/roles_test",
    "scenario/rotate_test", "scenario/trouble_test", "scenario/version_test",
)
POOLED = (
    "contract/store_test", "unit/manager_test", "scenario/first_use_test", "scenario/roles_test",
    "scenario/rotate_test",
)
# What races and overruns there are, these few find; the sanitizers make each take long.
SANITIZED = ("scenario/first_use_test", "scenario/rotate_test")

# Programs with a registry that run as they are and not once more.
ONCE = {
    "scenario/cloud_test": "is about the provider, whatever the store",
    "scenario/cloud_days_test": "is about the provider, whatever the store",
    "contract/store_test": "runs on both stores; the pool is a third",
    "scenario/nodes_test": "is on PostgreSQL in any case",
    "scenario/damaged_test": "flips bytes of the file",
    "scenario/fork_points_test": "a fork must not carry a connection over",
    "scenario/memory_test": "looks into this process's memory, whatever the store",
    "scenario/power_cut_test": "cuts the power of the disk below the file",
}

_OF = {
    "release": {"postgres": POSTGRES, "pooled": POOLED},
    "cover": {"postgres": POSTGRES},
    "asan": {"postgres": SANITIZED},
    "tsan": {"postgres": SANITIZED},
}


def elsewhere(kind):
    """(program, store) of a build, beside what all run on SQLite."""
    return [(name, store) for store, names in _OF.get(kind, {}).items() for name in names]
