"""`dekhand encrypt --csv` and `decrypt --csv`: columns of a file, every other byte as it was."""

import os
import random

import pytest

from cli_tool import RANDOM_BYTES, RANDOM_FILES
from csv_model import VALUE, Table

# Few columns suffice: `id` names rows, `tenant` their tenants, `name` and `note` are encrypted.
COLUMNS = ("name", "note")
CHOICE = ("--csv", "--columns", "name,note")
BY_COLUMN = (*CHOICE, "--tenant-column", "tenant")
HEADER = b"id,tenant,name,note\n"


def encrypt(cli, data, *more):
    return cli.ok("encrypt", *BY_COLUMN, *more, stdin=data)


def decrypt(cli, data, *more):
    return cli.ok("decrypt", *BY_COLUMN, *more, stdin=data)


def check_encrypted(plain, encrypted, columns=COLUMNS):
    """Nothing but the values changed, and each is a dk1 value."""
    before, after = Table(plain), Table(encrypted)
    assert after.blanked(columns) == before.blanked(columns)
    assert all(VALUE.fullmatch(value) for value in after.values(columns))


# ---- the same bytes come back --------------------------------------------------------------------

SAME = {
    "plain": HEADER + b"1,acme,Ada,x\n2,globex,Bob,y\n",
    "crlf": b"id,tenant,name,note\r\n1,acme,Ada,x\r\n2,globex,Bob,y\r\n",
    "mixed_line_ends": HEADER + b"1,acme,Ada,x\r\n2,acme,Bob,y\n3,acme,Cy,z\r\r\n4,acme,D,w\r",
    "nul_bytes": HEADER + b"1\0,acme,A\0da,\0\n2,acme,\"\0\",\"a\0b\"\n",
    "not_utf8": HEADER + b"\xff,acme,\xfe\xff,\xc3\n2,acme,\xed\xa0\x80,\"\x80\"\n",
    "quoted": HEADER + b'"1","acme","Ada","x"\n2,acme,"a,b",c\n',
    "doubled_quotes": HEADER + b'1,acme,"say ""hi""",""""\n2,acme,"""""","""x"\n',
    "line_feeds_inside": HEADER + b'1,acme,"a\nb\r\nc","\n"\n2,acme,"\r\n",x\n',
    "byte_order_mark": b"\xef\xbb\xbf" + HEADER + b"1,acme,Ada,x\n",
    "byte_order_mark_and_quotes": b'\xef\xbb\xbf"id","tenant","name","note"\r\n1,acme,Ada,x\r\n',
    "no_line_end_at_the_end": HEADER + b"1,acme,Ada,x\n2,acme,Bob,y",
    "null_at_the_end": HEADER + b"1,acme,Ada,",
    "header_only": HEADER,
    "header_without_line_end": b"id,tenant,name,note",
    "quoted_header": b'"id","tenant","name","note"\n1,acme,Ada,x\n',
    "blanks_are_part_of_the_value": HEADER + b"1,acme, Ada , x\n2,acme,\t,  \n",
    "values_that_look_encrypted": HEADER + b"1,acme,dk1.1.AAAA,dk1.\n",
    "lone_carriage_returns": HEADER + b"1,acme,a\rb,\r\n2,acme,\r,c\rd\n",
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME.keys())
def test_bytes_come_back_before_and_after_rotation(cli, data):
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data
    cli.ok("rotate", "--all")
    assert decrypt(cli, encrypted) == data


def test_null_is_left_alone_and_the_empty_string_is_encrypted(cli):
    data = HEADER + b'1,acme,,""\n'
    row = Table(encrypt(cli, data)).rows[0]
    assert row.cells[2].is_null()
    assert row.cells[3].quoted and VALUE.fullmatch(row.value(3))


def test_file_twice_in_one_input_has_a_row_that_names_columns(cli):
    """The second header is a row like others: its tenant `tenant` is a valid id."""
    data = SAME["plain"] * 2
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data


def test_rows_in_another_order_still_decrypt(cli):
    head, *rows = encrypt(cli, HEADER + b"1,acme,Ada,x\n2,globex,Bob,y\n").splitlines(True)
    assert decrypt(cli, head + b"".join(reversed(rows))) == HEADER + b"2,globex,Bob,y\n1,acme,Ada,x\n"


def test_columns_in_another_order_still_decrypt(cli):
    rows = encrypt(cli, HEADER + b'1,acme,Ada,"x,y"\n2,globex,Bob,""\n').splitlines()
    turned = b"".join(b",".join(reversed(row.split(b","))) + b"\n" for row in rows)
    assert decrypt(cli, turned) == b'note,name,tenant,id\n"x,y",Ada,acme,1\n"",Bob,globex,2\n'


def test_value_that_cannot_stand_bare_gets_quotes(cli):
    """Another program may have written the encrypted values without quotes."""
    encrypted = encrypt(cli, HEADER + b'1,acme,"a,b",""\n2,acme,"say ""hi""","a\nb"\n')
    bare = encrypted.replace(b'"', b"")
    assert decrypt(cli, bare) == HEADER + b'1,acme,"a,b",""\n2,acme,"say ""hi""","a\nb"\n'


def test_one_tenant_for_all_rows(cli):
    data = b"name\nAda\n\nBob\n"
    choice = ("--csv", "--columns", "name", "--tenant", "acme")
    encrypted = cli.ok("encrypt", *choice, stdin=data)
    check_encrypted(data, encrypted, ["name"])
    assert cli.ok("decrypt", *choice, stdin=encrypted) == data


def test_columns_option_may_be_given_twice(cli):
    choice = ("--csv", "--columns", "note", "--columns", "name", "--tenant-column", "tenant")
    assert decrypt(cli, cli.ok("encrypt", *choice, stdin=SAME["plain"])) == SAME["plain"]


def test_upper_case_uuid_is_the_same_tenant(cli):
    row = b"1,%s,Ada,x\n"
    upper, lower = b"3F2504E0-4F89-41D3-9A0C-0305E82C3301", b"3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    encrypted = encrypt(cli, HEADER + row % upper)
    assert decrypt(cli, encrypted.replace(upper, lower)) == HEADER + row % lower


def test_more_rows_than_a_chunk(cli):
    data = HEADER + b"".join(b'%d,t%d,"name %d",note %d\n' % (i, i % 7, i, i) for i in range(3000))
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data


def test_value_of_one_mebibyte(cli):
    data = HEADER + b'1,acme,%s,"%s"\n' % (b"x" * 2**20, b'""' * 2**19)
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data


def test_F57_value_over_one_mebibyte_is_a_bad_row(cli):
    done = cli.run("encrypt", *BY_COLUMN, stdin=HEADER + b"1,acme,%s,\n" % (b"x" * (2**20 + 1)))
    assert done.returncode == 1
    assert b"line 2, column name: E_LIMIT" in done.stderr


# ---- bad rows ------------------------------------------------------------------------------------

GOOD = b"1,acme,Ada,x\n"
BAD = {
    "quote_never_closed": (b'2,acme,"Bob,y\n3,acme,Cy,z\n', "a quote is never closed"),
    "quote_inside_a_bare_cell": (b'2,acme,B"ob,y\n', "a quote inside a cell"),
    "text_after_closing_quote": (b'2,acme,"Bob"by,y\n', "text after a closing quote"),
    "too_few_cells": (b"2,acme,Bob\n", "3 cells, the header has 4"),
    "too_many_cells": (b"2,acme,Bob,y,z\n", "5 cells, the header has 4"),
    "empty_line": (b"\n", "1 cells, the header has 4"),
    "tenant_with_blanks": (b"2,New Zealand,Bob,y\n", "column tenant"),
    "tenant_with_letters_beyond_ascii": ("2,Zoë,Bob,y\n".encode(), "column tenant"),
    "tenant_empty": (b"2,,Bob,y\n", "column tenant"),
    "tenant_with_nul": (b"2,ac\0me,Bob,y\n", "column tenant: the tenant id holds a NUL byte"),
    "tenant_too_long": (b"2,%s,Bob,y\n" % (b"t" * 129), "column tenant"),
}
EACH_BAD_ROW = pytest.mark.parametrize("row, why", BAD.values(), ids=BAD.keys())


@EACH_BAD_ROW
def test_bad_row_ends_the_run_without_rejects(cli, tmp_path, row, why):
    done = cli.run("encrypt", *BY_COLUMN, "-o", "out.csv", stdin=HEADER + GOOD + row)
    assert done.returncode == 1
    assert done.stdout == b""
    assert "line 3" in done.stderr.decode() and why in done.stderr.decode()
    assert not list(tmp_path.glob("out.csv*"))


@EACH_BAD_ROW
def test_bad_row_goes_to_the_rejects_byte_for_byte(cli, tmp_path, row, why):
    rejects = tmp_path / "bad.csv"
    done = cli.run("encrypt", *BY_COLUMN, "--rejects", rejects, stdin=HEADER + GOOD + row)
    assert done.returncode == 3
    assert rejects.read_bytes() == row
    assert rejects.stat().st_mode & 0o777 == 0o600
    assert "line 3" in done.stderr.decode() and why in done.stderr.decode()
    assert decrypt(cli, done.stdout) == HEADER + GOOD


@EACH_BAD_ROW
def test_decrypt_keeps_a_bad_row_as_it_is(cli, row, why):
    done = cli.run("decrypt", *BY_COLUMN, stdin=encrypt(cli, HEADER + GOOD) + row)
    assert done.returncode == 3
    assert done.stdout == HEADER + GOOD + row
    assert "line 3" in done.stderr.decode() and why in done.stderr.decode()


def test_good_run_leaves_an_empty_rejects_file(cli, tmp_path):
    encrypt(cli, HEADER + GOOD, "--rejects", tmp_path / "bad.csv")
    assert (tmp_path / "bad.csv").read_bytes() == b""


def refuses_rejects(cli, rejects, *more, **stdin):
    before = {path.name: path.read_bytes() for path in cli.folder.glob("*.csv")}
    said = cli.fails(2, "encrypt", *BY_COLUMN, "--rejects", rejects, *more, **stdin)
    assert {path.name: path.read_bytes() for path in cli.folder.glob("*.csv")} == before
    return said


@pytest.mark.parametrize("output", ["bad.csv", "./bad.csv", "home/../bad.csv"])
def test_rejects_and_output_are_two_files(cli, tmp_path, output):
    data = HEADER + GOOD + b"x\n"
    assert "the same file" in refuses_rejects(cli, "bad.csv", "-o", output, stdin=data)
    assert "the same file" in refuses_rejects(cli, tmp_path / "bad.csv", "-o", output, stdin=data)
    (tmp_path / "bad.csv").write_bytes(b"old")
    assert "the same file" in refuses_rejects(cli, "bad.csv", "-o", output, stdin=data)


def test_rejects_are_not_the_input(cli, tmp_path):
    (tmp_path / "in.csv").write_bytes(HEADER + GOOD + b"x\n")
    with open(tmp_path / "in.csv", "rb") as source:
        done = cli.run("encrypt", *BY_COLUMN, "--rejects", "in.csv", stdin=None,
                       preexec_fn=lambda: os.dup2(source.fileno(), 0))
    assert done.returncode == 2 and done.stdout == b""
    assert b"standard input" in done.stderr
    assert (tmp_path / "in.csv").read_bytes() == HEADER + GOOD + b"x\n"


def test_rejects_of_an_earlier_run_are_kept(cli, tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"rows of yesterday\n")
    said = refuses_rejects(cli, "bad.csv", stdin=HEADER + GOOD)
    assert "bad.csv exists already: move it away, its rows would be lost" in said


def test_lines_are_counted_through_quoted_line_feeds(cli):
    data = HEADER + b'1,acme,"a\nb\nc",x\n2,acme,B"ob,y\n'
    done = cli.run("encrypt", *BY_COLUMN, stdin=data)
    assert b"line 5, column name:" in done.stderr


def test_messages_about_bad_rows_are_few(cli, tmp_path):
    data = HEADER + b"x\n" * 5000
    done = cli.run("encrypt", *BY_COLUMN, "--rejects", tmp_path / "bad.csv", stdin=data)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) < 20
    assert b"5000 bad rows" in done.stderr
    assert (tmp_path / "bad.csv").read_bytes() == b"x\n" * 5000


def test_control_characters_of_a_file_do_not_reach_the_terminal(cli):
    done = cli.run("encrypt", *BY_COLUMN, stdin=HEADER + b"1,\x1b[2J\x07,Ada,x\n")
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr and b"\x07" not in done.stderr


LONG_ROWS = {
    "bare": b"2,acme,%s,y\n" % (b"x" * (5 * 2**20)),
    "quoted_with_line_feeds": b'2,acme,"%s",y\n' % (b"a\n" * (3 * 2**20)),
    "doubled_quotes": b'2,acme,"%s",y\n' % (b'""' * (3 * 2**20)),
}


@pytest.mark.parametrize("row", LONG_ROWS.values(), ids=LONG_ROWS.keys())
def test_row_over_four_mebibytes_is_bad_and_the_next_one_is_not(cli, tmp_path, row):
    data = HEADER + GOOD + row + b"3,acme,Cy,z\n"
    rejects = tmp_path / "bad.csv"
    done = cli.run("encrypt", *BY_COLUMN, "--rejects", rejects, stdin=data)
    assert done.returncode == 3
    assert rejects.read_bytes() == row
    assert b"line 3: the row is longer than 4 MiB" in done.stderr
    assert decrypt(cli, done.stdout) == HEADER + GOOD + b"3,acme,Cy,z\n"


def test_decrypt_keeps_a_row_over_four_mebibytes(cli):
    row = LONG_ROWS["quoted_with_line_feeds"]
    done = cli.run("decrypt", *BY_COLUMN, stdin=encrypt(cli, HEADER + GOOD) + row)
    assert done.returncode == 3
    assert done.stdout == HEADER + GOOD + row


def test_quote_never_closed_in_a_long_file_is_one_bad_row(cli, tmp_path):
    rest = b'2,acme,"Bob,y\n' + b"3,acme,Cy,z\n" * 400_000
    done = cli.run("encrypt", *BY_COLUMN, "--rejects", tmp_path / "bad.csv",
                   stdin=HEADER + GOOD + rest)
    assert done.returncode == 3
    assert (tmp_path / "bad.csv").read_bytes() == rest


# ---- decrypt: values that do not open ------------------------------------------------------------

def test_F62_R10_value_moved_to_another_tenant_is_kept(cli):
    encrypted = encrypt(cli, HEADER + b"1,acme,Ada,x\n2,globex,Bob,y\n")
    moved = encrypted.replace(b"1,acme", b"1,globex")
    done = cli.run("decrypt", *BY_COLUMN, stdin=moved)
    assert done.returncode == 3
    assert done.stdout == moved.splitlines(True)[0] + moved.splitlines(True)[1] + b"2,globex,Bob,y\n"
    assert b"line 2, column name: E_AUTH" in done.stderr


def test_R27_one_bad_value_leaves_the_other_rows_alone(cli):
    encrypted = encrypt(cli, HEADER + b"1,acme,Ada,x\n2,acme,Bob,y\n3,acme,Cy,z\n").splitlines(True)
    encrypted[2] = encrypted[2][:-2] + (b"A\n" if encrypted[2][-2:-1] != b"A" else b"B\n")
    done = cli.run("decrypt", *BY_COLUMN, stdin=b"".join(encrypted))
    assert done.returncode == 3
    assert done.stdout == HEADER + b"1,acme,Ada,x\n" + encrypted[2] + b"3,acme,Cy,z\n"
    assert b"line 3, column note:" in done.stderr


def test_plain_value_is_kept_by_decrypt(cli):
    encrypt(cli, HEADER + GOOD)
    done = cli.run("decrypt", *BY_COLUMN, stdin=HEADER + GOOD)
    assert (done.returncode, done.stdout) == (3, HEADER + GOOD)
    assert b"line 2, column name: E_FORMAT" in done.stderr


def test_cut_file_is_decrypted_up_to_the_cut(cli):
    encrypted = encrypt(cli, HEADER + b"1,acme,Ada,x\n2,acme,Bob,y\n")
    lines = encrypted.splitlines(True)
    for cut in range(1, len(lines[2]) - 1, 7):
        done = cli.run("decrypt", *BY_COLUMN, stdin=encrypted[:-cut - 1])
        assert done.returncode == 3
        assert done.stdout == HEADER + GOOD + lines[2][:-cut - 1]


# ---- the call ------------------------------------------------------------------------------------

WRONG_CALLS = {
    "unknown_column": (("--columns", "name,phone", "--tenant", "acme"), "no column `phone`"),
    "unknown_tenant_column": (("--columns", "name", "--tenant-column", "org"), "no column `org`"),
    "no_columns": (("--tenant", "acme"), "--columns"),
    "tenant_column_is_encrypted": (("--columns", "tenant", "--tenant-column", "tenant"),
                                   "has to stay readable"),
    "tenant_and_tenant_column": (("--columns", "name", "--tenant", "a", "--tenant-column", "tenant"),
                                 "either --tenant ID or --tenant-column"),
    "neither": (("--columns", "name"), "either --tenant ID or --tenant-column"),
    "context_without_equals": (("--columns", "name", "--tenant", "a", "--context", "row"),
                               "NAME=VALUE"),
    "encrypted_column_in_context": (("--columns", "name", "--tenant", "a", "--context", "n={name}"),
                                    "encrypted itself"),
    "unknown_column_in_context": (("--columns", "name", "--tenant", "a", "--context", "n={row}"),
                                  "no column `row`"),
    "brace_never_closed": (("--columns", "name", "--tenant", "a", "--context", "n={id"),
                           "`{` without `}`"),
}


@pytest.mark.parametrize("args, why", WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_wrong_call_names_what_is_wrong(cli, command, args, why):
    assert why in cli.fails(2, command, "--csv", *args, stdin=HEADER + GOOD)


@pytest.mark.parametrize("option", ["--columns=a", "--tenant-column=a", "--rejects=a"])
def test_options_of_csv_need_csv(cli, option):
    assert "goes with --csv" in cli.fails(2, "encrypt", "--tenant", "acme", option)


def test_rejects_are_for_encrypt(cli):
    assert "--rejects" in cli.fails(2, "decrypt", *BY_COLUMN, "--rejects", "x", stdin=HEADER)


INPUTS_WITHOUT_HEADER = {
    "empty": b"",
    "data_only": GOOD * 3,
    "header_in_quotes_never_closed": b'id,tenant,"name,note\n',
    "column_twice": b"id,tenant,name,note,name\n",
}


@pytest.mark.parametrize("data", INPUTS_WITHOUT_HEADER.values(), ids=INPUTS_WITHOUT_HEADER.keys())
@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_input_without_a_usable_header(cli, tmp_path, command, data):
    cli.fails(2, command, *BY_COLUMN, "-o", "out.csv", stdin=data)
    assert not list(tmp_path.glob("out.csv*"))


# ---- contexts ------------------------------------------------------------------------------------

def test_F62_R10_row_in_the_context_stops_moves_between_rows(cli):
    context = ("--context", "field=people.name", "--context", "row={id}")
    data = HEADER + b'1,acme,Ada,x\n"2",acme,Bob,y\n'
    encrypted = encrypt(cli, data, *context)
    assert decrypt(cli, encrypted, *context) == data
    done = cli.run("decrypt", *BY_COLUMN, *context, stdin=encrypted.replace(b'"2"', b"3"))
    assert done.returncode == 3
    assert b"line 3, column name: E_AUTH" in done.stderr


def test_context_with_a_column_equals_the_context_with_its_value(cli):
    encrypted = encrypt(cli, HEADER + b'7,acme,Ada,\n', "--context", "row=no. {id} {{x}")
    value = Table(encrypted).rows[0].value(2)
    found = cli.ok("decrypt", "--tenant", "acme", "--context", "row=no. 7 {x}", stdin=value)
    assert found == b"Ada"


def test_quotes_are_no_part_of_a_context_value(cli):
    encrypted = encrypt(cli, HEADER + b'"a ""b""",acme,Ada,\n', "--context", "row={id}")
    value = Table(encrypted).rows[0].value(2)
    assert cli.ok("decrypt", "--tenant", "acme", "--context", 'row=a "b"', stdin=value) == b"Ada"


@pytest.mark.parametrize("cell", [b"\0", b"x" * 257, b"\xff"], ids=["nul", "too_long", "not_utf8"])
def test_column_that_cannot_be_a_context_makes_a_bad_row(cli, tmp_path, cell):
    row = b"%s,acme,Ada,x\n" % cell
    rejects = tmp_path / "bad.csv"
    done = cli.run("encrypt", *BY_COLUMN, "--context", "row={id}", "--rejects", rejects,
                   stdin=HEADER + row + GOOD)
    assert done.returncode == 3
    assert rejects.read_bytes() == row


# ---- files with random content -------------------------------------------------------------------

PIECES = (b"", b"a", b"Zo\xc3\xab", b"\xff\xfe", b"\0", b"\r", b"x y", b"\xf0\x9f\x94\x91", b"{id}",
          b"dk1.1.AAAA", b"'", b"\\", b"\xef\xbb\xbf", b"-", b"\x1b[1m")
TENANTS = (b"acme", b"globex", b"a.b:c_d-1", b"3F2504E0-4F89-41D3-9A0C-0305E82C3301")
NO_TENANTS = (b"", b"a b", b"a\0", b"\xc3\xab", b"t" * 129)


class RandomFile:
    """A CSV file that mixes good rows with most mistakes there are."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.line_end = self.dice.choice((b"\n", b"\r\n"))
        self.error_rate = self.dice.choice((0, 0, 0.1, 0.5))

    def data(self):
        header = list(b"id,tenant,name,note".split(b","))
        self.dice.shuffle(header)
        mark = self.dice.choice((b"", b"", b"\xef\xbb\xbf"))
        lines = [b",".join(header), *(self.row(header) for _ in range(self.dice.randrange(12)))]
        text = mark + b"".join(line + self.end() for line in lines)
        cut = self.dice.randrange(1, 3) if len(lines) > 1 and self.dice.random() < 0.2 else 0
        return text[:len(text) - cut]

    def end(self):
        return self.line_end if self.dice.random() < 0.9 else self.dice.choice((b"\n", b"\r\n"))

    def row(self, header):
        cells = [self.tenant() if name == b"tenant" else self.cell() for name in header]
        if self.dice.random() < self.error_rate:
            self.dice.choice((lambda: cells.append(b"more"), cells.pop, cells.clear))()
        return b",".join(cells)

    def tenant(self):
        if self.dice.random() < self.error_rate / 2:
            return self.dice.choice(NO_TENANTS)
        tenant = self.dice.choice(TENANTS)
        return tenant if self.dice.random() < 0.7 else b'"' + tenant + b'"'

    def cell(self):
        if self.dice.random() < self.error_rate / 4:
            return self.dice.choice((b'a"b', b'"a"b', b'"a', b'"a"""b', b'"\r"\r'))
        text = b"".join(self.dice.choices(PIECES, k=self.dice.randrange(4)))
        if self.dice.random() < 0.5:
            return text
        for mark in (b'""', b",", b"\n", b"\r\n"):
            if self.dice.random() < 0.3:
                at = self.dice.randrange(len(text) + 1)
                text = text[:at] + mark + text[at:] if b'"' not in text else text + mark
        return b'"' + text + b'"'


def check_random_file(cli, data, rejects):
    """Encrypts and decrypts it as the model says; the encrypted file and its plain text."""
    rejects.unlink(missing_ok=True)
    good, bad = Table(data).split("tenant")
    done = cli.run("encrypt", *BY_COLUMN, "--rejects", rejects, stdin=data)
    assert done.returncode == (3 if bad else 0), data
    assert rejects.read_bytes() == bad, data
    check_encrypted(good, done.stdout)
    assert decrypt(cli, done.stdout) == good, data
    return done.stdout, good


def test_random_files_follow_the_rules(cli, tmp_path):
    files = [RandomFile(seed).data() for seed in range(RANDOM_FILES)]
    pairs = [check_random_file(cli, data, tmp_path / "bad.csv") for data in files]
    cli.ok("rotate", "--all")
    for encrypted, good in pairs:
        assert decrypt(cli, encrypted) == good


def test_random_bytes_never_pass_through_encrypt_unread(cli, tmp_path):
    """Whatever follows the header, the output is what the model says is good."""
    dice = random.Random(20)
    for _ in range(RANDOM_BYTES):
        rest = bytes(dice.choices(b'a1,,"\n\r\0\xff', k=dice.randrange(200)))
        check_random_file(cli, HEADER + rest, tmp_path / "bad.csv")
