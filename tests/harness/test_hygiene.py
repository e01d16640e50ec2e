"""scripts/hygiene.py on single lines."""

import pytest

import hygiene


def findings(root, line, name="a.c"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"first\n" + line)
    return hygiene.check_file(root, name)


@pytest.mark.parametrize("line", [
    b"x /home/me/x",
    b'open("/root/.ssh")',
    b"/work/main",
    b"from https://pypi.org/simple",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----BEGIN PRIVATE KEY-----",
    b"as ChatGPT says",
    b"/* TODO: later */",
    b"FIXME",
    b"int a; ",
    b"int a;\t",
])
def test_found(tmp_path, line):
    (found,) = findings(tmp_path, line)
    assert found.startswith("a.c:2: ")


@pytest.mark.parametrize("line", [
    b"network/work/x and $HOME/x and ${D}/root/x",
    b"-----BEGIN PUBLIC KEY-----",
    b"/* TODO #12: later */",
    b"mypypi.organic",
    b"copilots",
])
def test_passed(tmp_path, line):
    assert findings(tmp_path, line) == []


def test_prose_may_speak_of_todo(tmp_path):
    assert findings(tmp_path, b"No TODO without a number.", "a.md") == []


def test_white_space_of_data_is_kept(tmp_path):
    assert findings(tmp_path, b"a ", "tests/golden/a.txt") == []
    assert findings(tmp_path, b"a \0 ", "a.bin") == []


def test_tree_without_git_leaves_out_what_was_built(tmp_path):
    for name in ("src/a.c", "build/a.c"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert hygiene.tree_files(tmp_path) == ["src/a.c"]
