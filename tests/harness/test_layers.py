"""scripts/layers.py on small trees."""

import pytest

import layers

TREE = ("src/base/bytes.h", "src/crypto/field.h", "src/provider/provider.h", "src/provider/local.h",
        "src/store/store.h", "src/store/sqlite.h", "src/keys/manager.h", "src/door.h",
        "include/dekhand.h", "include/dekhand_admin.h")


def judge(root, path, include):
    """What layers says when the file at `path` has this include line."""
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"/* a */\n#include {include}\n")
    return layers.check_file(root, file)


@pytest.mark.parametrize("path, include", [
    ("src/base/a.c", '"base/bytes.h"'),
    ("src/base/a.c", "<openssl/evp.h>"),
    ("src/crypto/a.c", '"base/bytes.h"'),
    ("src/provider/a.c", '"crypto/field.h"'),
    ("src/store/a.c", '"base/bytes.h"'),
    ("src/keys/a.c", '"provider/provider.h"'),
    ("src/keys/a.c", '"store/store.h"'),
    ("src/dekhand.c", '"store/sqlite.h"'),
    ("src/dekhand.c", '"dekhand.h"'),
    ("src/dekhand_admin.c", '"door.h"'),
    ("src/cli/a.c", '"base/bytes.h"'),
    ("src/cli/a.c", '"dekhand_admin.h"'),
    ("src/cli/a.c", "<dekhand.h>"),
    ("src/cli/bench.c", '"crypto/field.h"'),
    ("include/dekhand.h", "<stdint.h>"),
    ("include/dekhand_admin.h", '"dekhand.h"'),
])
def test_allowed(tmp_path, path, include):
    assert judge(tmp_path, path, include) == []


@pytest.mark.parametrize("path, include", [
    ("src/base/a.c", '"crypto/field.h"'),
    ("src/base/a.c", '"dekhand.h"'),
    ("src/base/a.c", "<dekhand.h>"),
    ("src/base/a.c", '"bytes.h"'),
    ("src/base/a.c", '"../crypto/field.h"'),
    ("src/base/a.c", "<base/bytes.h>"),
    ("src/crypto/a.c", '"provider/provider.h"'),
    ("src/provider/a.c", '"store/store.h"'),
    ("src/store/a.c", '"crypto/field.h"'),
    ("src/store/a.c", '"keys/manager.h"'),
    ("src/keys/a.c", '"provider/local.h"'),
    ("src/keys/a.c", '"store/sqlite.h"'),
    ("src/keys/a.c", '"door.h"'),
    ("src/keys/a.c", '"dekhand.h"'),
    ("src/cli/a.c", '"crypto/field.h"'),
    ("src/cli/a.c", '"door.h"'),
    ("src/attic/a.c", '"base/bytes.h"'),
    ("include/dekhand.h", "<openssl/evp.h>"),
    ("include/dekhand.h", '"base/bytes.h"'),
])
def test_refused(tmp_path, path, include):
    (found,) = judge(tmp_path, path, include)
    assert found.startswith(f"{path}:2: ")
