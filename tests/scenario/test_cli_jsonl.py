"""`dekhand encrypt --jsonl` and `decrypt --jsonl`: strings of objects, every other byte as it was."""

import json
import random

import pytest

from cli_tool import RANDOM_BYTES, RANDOM_FILES, check_schema
from jsonl_model import VALUE, Rules, lines, read

FIELDS = ("name", "note")
CHOICE = ("--jsonl", "--fields", "name,note")
BY_FIELD = (*CHOICE, "--tenant-column", "tenant")
RULES = Rules(FIELDS, "tenant")


def encrypt(cli, data, *more):
    return cli.ok("encrypt", *BY_FIELD, *more, stdin=data)


def decrypt(cli, data, *more):
    return cli.ok("decrypt", *BY_FIELD, *more, stdin=data)


def check_encrypted(plain, encrypted, rules=RULES):
    """Nothing but the strings changed, and each is a dk1 value."""
    assert rules.same_but_values(plain, encrypted)
    assert all(VALUE.fullmatch(value) for value in rules.values(encrypted))


def check_same(plain, back, rules=RULES):
    """Equal values, every other byte the same."""
    assert rules.same_but_values(plain, back)
    assert rules.values(back) == rules.values(plain)


# ---- equal values come back ----------------------------------------------------------------------

GOOD = b'{"id":1,"tenant":"acme","name":"Ada","note":"x"}\n'
SAME_BYTES = {
    "plain": GOOD + b'{"id":2,"tenant":"globex","name":"Bob","note":"y"}\n',
    "white_space": b' \t{ "tenant" :\t"acme" , "name" : "Ada" ,\r"note":"x" } \n' + GOOD,
    "crlf": GOOD.replace(b"\n", b"\r\n") * 2,
    "no_line_end_at_the_end": GOOD + GOOD[:-1],
    "byte_order_mark": b"\xef\xbb\xbf" + GOOD,
    "byte_order_mark_only": b"\xef\xbb\xbf",
    "empty_file": b"",
    "empty_lines": b"\n\r\n" + GOOD + b" \t\n\n" + GOOD + b"\n  ",
    "empty_string": b'{"tenant":"acme","name":"","note":""}\n',
    "null_and_missing": b'{"tenant":"acme","name":null}\n{"tenant":"acme"}\n',
    "numbers_keep_their_digits":
        b'{"tenant":"acme","a":18446744073709551616,"b":0.10,"c":-0,"d":1E+2,"e":1e999,"name":"x"}\n',
    "other_members_are_not_looked_into":
        b'{"x":{"name":"in","tenant":[1,{"name":null}]},"tenant":"acme","name":"out","y":[[],{}]}\n',
    "letters_beyond_ascii": '{"tenant":"acme","name":"Zoë 小龙 🦉","é":"é"}\n'.encode(),
    "names_in_any_order": b'{"note":"x","tenant":"acme","name":"Ada"}\n',
    "values_that_look_encrypted": b'{"tenant":"acme","name":"dk1.1.AAAA","note":"dk1."}\n',
    "a_number_as_tenant": b'{"tenant":42,"name":"Ada"}\n',
    "sixteen_levels": b'{"tenant":"acme","name":"x","a":' + b"[" * 15 + b"]" * 15 + b"}\n",
    "delete_is_no_control_character": b'{"tenant":"acme","name":"a\x7fb"}\n',
}
# The string comes back as another spelling of the same value.
SAME_VALUES = {
    "escapes": rb'{"tenant":"acme","name":"\"\\\/\b\f\n\r\t","note":"\u0041\u00e9\u20AC"}' b"\n",
    "surrogate_pairs": rb'{"tenant":"acme","name":"\ud83e\udd89","note":"\uD800\uDC00"}' b"\n",
    "nul_and_controls": rb'{"tenant":"acme","name":"a\u0000b","note":"\u0000\u001f\u007f"}' b"\n",
    "escaped_names": rb'{"ten\u0061nt":"acme","n\u0061me":"Ada","not\u0065":"x"}' b"\n",
    "escaped_tenant": rb'{"tenant":"\u0061cme","name":"Ada"}' b"\n",
}


@pytest.mark.parametrize("data", SAME_BYTES.values(), ids=SAME_BYTES.keys())
def test_bytes_come_back_before_and_after_rotation(cli, data):
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data
    cli.ok("rotate", "--all")
    assert decrypt(cli, encrypted) == data


@pytest.mark.parametrize("data", SAME_VALUES.values(), ids=SAME_VALUES.keys())
def test_equal_values_come_back(cli, data):
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    back = decrypt(cli, encrypted)
    check_same(data, back)
    assert decrypt(cli, encrypt(cli, back)) == back


def test_null_and_missing_are_left_alone_and_the_empty_string_is_encrypted(cli):
    found = read(encrypt(cli, b'{"tenant":"acme","name":null,"note":""}\n'))
    assert found["name"] is None
    assert VALUE.fullmatch(found["note"])


def test_values_are_those_of_the_other_commands(cli):
    found = read(encrypt(cli, b'{"tenant":"acme","name":"Zo\\u00eb"}\n'))
    assert cli.ok("decrypt", "--tenant", "acme", stdin=found["name"].encode()) == "Zoë".encode()
    value = cli.ok("encrypt", "--tenant", "acme", stdin=b'say "hi"\n\x01').strip()
    line = b'{"tenant":"acme","name":"%s"}\n' % value
    assert decrypt(cli, line) == rb'{"tenant":"acme","name":"say \"hi\"\n\u0001"}' b"\n"


def test_encrypted_fields_of_csv_and_jsonl_are_the_same_kind(cli):
    csv = cli.ok("encrypt", "--csv", "--columns", "v", "--tenant", "acme", stdin=b"v\nAda\n")
    value = csv.splitlines()[1]
    line = b'{"v":"%s"}\n' % value
    assert cli.ok("decrypt", "--jsonl", "--fields", "v", "--tenant", "acme",
                  stdin=line) == b'{"v":"Ada"}\n'


def test_fields_option_may_be_given_twice_and_names_a_field_twice(cli):
    choice = ("--jsonl", "--fields", "note", "--fields", "name,note", "--tenant-column", "tenant")
    assert decrypt(cli, cli.ok("encrypt", *choice, stdin=GOOD)) == GOOD


def test_names_beyond_ascii_can_be_chosen(cli):
    choice = ("--jsonl", "--fields", "naïve,🦉", "--tenant", "acme")
    data = '{"na\\u00efve":"a","\\ud83e\\udd89":"b"}\n'.encode()
    encrypted = cli.ok("encrypt", *choice, stdin=data)
    check_encrypted(data, encrypted, Rules(("naïve", "🦉")))
    assert cli.ok("decrypt", *choice, stdin=encrypted) == data


def test_lines_in_another_order_still_decrypt(cli):
    data = b"".join(b'{"tenant":"t%d","name":"n %d"}\n' % (i % 3, i) for i in range(9))
    turned = b"".join(reversed(encrypt(cli, data).splitlines(True)))
    assert decrypt(cli, turned) == b"".join(reversed(data.splitlines(True)))


def test_more_lines_than_a_batch(cli):
    data = b"".join(b'{"tenant":"t%d","name":"name %d","note":"note %d"}\n' % (i % 7, i, i)
                    for i in range(5000))
    encrypted = encrypt(cli, data)
    check_encrypted(data, encrypted)
    assert decrypt(cli, encrypted) == data


def test_value_of_one_mebibyte(cli):
    data = b'{"tenant":"acme","name":"%s","note":"%s"}\n' % (b"x" * 2**20, rb'\"' * 2**20)
    encrypted = encrypt(cli, data)
    assert decrypt(cli, encrypted) == data


def test_F57_value_over_one_mebibyte_is_a_bad_row(cli):
    done = cli.run("encrypt", *BY_FIELD,
                   stdin=b'{"tenant":"acme","name":"%s"}\n' % (b"x" * (2**20 + 1)))
    assert done.returncode == 1
    assert b"line 1, field name: E_LIMIT" in done.stderr


# ---- bad lines -----------------------------------------------------------------------------------

BAD = {
    "array": (b"[1]\n", "no JSON object"),
    "string": (b'"x"\n', "no JSON object"),
    "words": (b"hello secret\n", "no JSON object"),
    "cut": (b'{"tenant":"acme","name":"secret', "a string is never closed"),
    "two_objects": (b'{"tenant":"acme"} {"name":"secret"}\n', "text after the object"),
    "byte_order_mark_inside": (b'\xef\xbb\xbf{"tenant":"acme"}\n', "no JSON object"),
    "comma_at_the_end": (b'{"tenant":"acme",}\n', "a name in double quotes is wanted"),
    "no_comma": (b'{"tenant":"acme" "name":"secret"}\n', "a comma or a closing bracket"),
    "no_colon": (b'{"tenant" "acme"}\n', "a colon is wanted"),
    "single_quotes": (b"{'tenant':'acme'}\n", "a name in double quotes is wanted"),
    "not_a_number": (b'{"tenant":"acme","a":NaN}\n', "a value is wanted"),
    "infinity": (b'{"tenant":"acme","a":-Infinity}\n', "not a number"),
    "leading_zero": (b'{"tenant":"acme","a":01}\n', "not a number"),
    "hexadecimal": (b'{"tenant":"acme","a":0x1}\n', "a comma or a closing bracket"),
    "comment": (b'{"tenant":"acme"/* secret */}\n', "a comma or a closing bracket"),
    "half_pair": (rb'{"tenant":"acme","name":"\ud800 secret"}' b"\n", "half of a surrogate pair"),
    "half_pair_elsewhere": (rb'{"tenant":"acme","a":[{"b":"\udc00"}]}' b"\n", "half of a surrogate"),
    "unknown_escape": (rb'{"tenant":"acme","a":"\x41"}' b"\n", "an escape that JSON does not have"),
    "short_escape": (rb'{"tenant":"acme","a":"\u41"}' b"\n", "an escape that JSON does not have"),
    "tab_inside": (b'{"tenant":"acme","a":"\t"}\n', "a control character inside a string"),
    "nul_inside": (b'{"tenant":"acme","a":"\0"}\n', "a control character inside a string"),
    "nul_outside": (b'{"tenant":"acme"\0}\n', "a comma or a closing bracket"),
    "not_utf8": (b'{"tenant":"acme","a":"\xff"}\n', "not UTF-8"),
    "surrogate_in_utf8": (b'{"tenant":"acme","a":"\xed\xa0\x80"}\n', "not UTF-8"),
    "overlong": (b'{"tenant":"acme","a":"\xc0\xaf"}\n', "not UTF-8"),
    "name_twice": (b'{"tenant":"acme","name":"a","name":"secret"}\n', "a name stands twice"),
    "tenant_twice": (b'{"tenant":"acme","tenant":"globex"}\n', "a name stands twice"),
    "name_twice_after_unescaping": (rb'{"tenant":"acme","note":"a","\u006eote":"secret"}' b"\n",
                                    "a name stands twice"),
    "name_twice_inside": (rb'{"tenant":"acme","a":[{"b":1,"b":2}]}' b"\n", "a name stands twice"),
    "seventeen_levels": (b'{"tenant":"acme","a":' + b"[" * 16 + b"]" * 16 + b"}\n",
                         "nested deeper than 16"),
    "very_deep": (b'{"a":' * 200_000 + b"\n", "nested deeper than 16"),
    "number": (b'{"tenant":"acme","name":4711}\n', "field name: a number; only a string"),
    "true": (b'{"tenant":"acme","name":true}\n', "field name: true or false; only a string"),
    "object": (b'{"tenant":"acme","note":{"a":"secret"}}\n', "field note: an object; only a string"),
    "array_value": (b'{"tenant":"acme","note":["secret"]}\n', "field note: an array; only a string"),
    "no_tenant": (b'{"name":"secret"}\n', "field tenant: a tenant id is wanted"),
    "null_tenant": (b'{"tenant":null,"name":"secret"}\n', "field tenant: a tenant id is wanted"),
    "true_as_tenant": (b'{"tenant":true,"name":"secret"}\n', "field tenant: a tenant id is wanted"),
    "tenant_with_blanks": (b'{"tenant":"New Zealand","name":"secret"}\n', "field tenant"),
    "tenant_with_nul": (rb'{"tenant":"ac\u0000me"}' b"\n", "field tenant: the tenant id holds a NUL"),
}
EACH_BAD_LINE = pytest.mark.parametrize("line, why", BAD.values(), ids=BAD.keys())


def check_said(done, why):
    said = done.stderr.decode()
    assert "line 2" in said and why in said
    assert "secret" not in said and "4711" not in said


@EACH_BAD_LINE
def test_bad_line_ends_the_run_without_rejects(cli, tmp_path, line, why):
    done = cli.run("encrypt", *BY_FIELD, "-o", "out.jsonl", stdin=GOOD + line)
    assert done.returncode == 1
    assert done.stdout == b""
    check_said(done, why)
    assert not list(tmp_path.glob("out.jsonl*"))


@EACH_BAD_LINE
def test_bad_line_goes_to_the_rejects_byte_for_byte(cli, tmp_path, line, why):
    rejects = tmp_path / "bad.jsonl"
    done = cli.run("encrypt", *BY_FIELD, "--rejects", rejects, stdin=GOOD + line)
    assert done.returncode == 3
    assert rejects.read_bytes() == line
    assert rejects.stat().st_mode & 0o777 == 0o600
    check_said(done, why)
    assert decrypt(cli, done.stdout) == GOOD
    assert RULES.split(GOOD + line) == (GOOD, line)


@EACH_BAD_LINE
def test_decrypt_keeps_a_bad_line_as_it_is(cli, line, why):
    done = cli.run("decrypt", *BY_FIELD, stdin=encrypt(cli, GOOD) + line)
    assert done.returncode == 3
    assert done.stdout == GOOD + line
    check_said(done, why)


def test_the_place_of_a_mistake_is_named(cli):
    done = cli.run("encrypt", *BY_FIELD, stdin=b"\n\n" + b'{"tenant":"acme",x}\n')
    assert b"dekhand: line 3: not JSON at byte 18: a name in double quotes" in done.stderr


def test_more_than_4096_names_in_a_line(cli):
    names = b",".join(b'"%d":0' % i for i in range(4094))
    line = b'{"tenant":"acme","name":"Ada",' + names
    encrypted = encrypt(cli, line + b"}\n")
    assert decrypt(cli, encrypted) == line + b"}\n"
    done = cli.run("encrypt", *BY_FIELD, stdin=line + b',"x":0}\n')
    assert done.returncode == 1 and b"more than 4096 names" in done.stderr


LONG = b'{"tenant":"acme","name":"%s"}\n' % (b"x" * (5 * 2**20))


def test_line_over_four_mebibytes_is_bad_and_the_next_one_is_not(cli, tmp_path):
    rejects = tmp_path / "bad.jsonl"
    done = cli.run("encrypt", *BY_FIELD, "--rejects", rejects, stdin=GOOD + LONG + GOOD)
    assert done.returncode == 3
    assert rejects.read_bytes() == LONG
    assert b"line 2: the line is longer than 4 MiB" in done.stderr
    assert b"3 rows" in done.stderr
    assert decrypt(cli, done.stdout) == GOOD + GOOD


def test_decrypt_keeps_a_line_over_four_mebibytes(cli):
    done = cli.run("decrypt", *BY_FIELD, stdin=encrypt(cli, GOOD) + LONG[:-1])
    assert done.returncode == 3
    assert done.stdout == GOOD + LONG[:-1]


@pytest.mark.release
def test_long_line_of_many_values_takes_no_memory_of_its_own(cli, large):
    """A reader that builds a tree would take thirty times the line: 120 MiB."""
    plain, encrypted, back = (large / name for name in ("plain", "encrypted", "back"))
    line = b'{"tenant":"acme","name":"Ada","a":[' + b"0," * (2**21 - 60) + b"0]}\n"
    plain.write_bytes(line * 5)
    memory = [cli.measured("encrypt", *BY_FIELD, "--threads", 2, source=plain, target=encrypted),
              cli.measured("decrypt", *BY_FIELD, "--threads", 2, source=encrypted, target=back)]
    assert back.read_bytes() == plain.read_bytes()
    assert max(memory) < 80 * 1024


def test_messages_about_bad_lines_are_few(cli, tmp_path):
    done = cli.run("encrypt", *BY_FIELD, "--rejects", tmp_path / "bad", stdin=b"x\n" * 5000)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) < 20
    assert b"5000 bad rows" in done.stderr
    assert (tmp_path / "bad").read_bytes() == b"x\n" * 5000


def test_summary_as_json(cli):
    data = b'{"tenant":"acme","name":"Ada","note":null}\n\n{"tenant":"acme","name":"Bob"}\nx\n'
    done = cli.run("encrypt", *BY_FIELD, "--json", "--rejects", "bad", stdin=data)
    found = json.loads(done.stderr.splitlines()[-1])
    check_schema("csv-summary", found)
    counted = {name: found[name] for name in ("rows", "values", "nulls", "badRows")}
    assert counted == {"rows": 3, "values": 2, "nulls": 1, "badRows": 1}


# ---- decrypt: values that do not open ------------------------------------------------------------

def test_F62_R10_value_moved_to_another_tenant_is_kept(cli):
    data = b'{"tenant":"acme","name":"Ada"}\n{"tenant":"globex","name":"Bob"}\n'
    moved = encrypt(cli, data).replace(b'"acme"', b'"globex"')
    done = cli.run("decrypt", *BY_FIELD, stdin=moved)
    assert done.returncode == 3
    assert done.stdout == moved.splitlines(True)[0] + data.splitlines(True)[1]
    assert b"line 1, field name: E_AUTH" in done.stderr


def test_R27_one_bad_value_leaves_the_other_lines_alone(cli):
    data = [b'{"tenant":"acme","name":"%s"}\n' % name for name in (b"Ada", b"Bob", b"Cy")]
    encrypted = encrypt(cli, b"".join(data)).splitlines(True)
    last = encrypted[1][-4:-3]
    encrypted[1] = encrypted[1][:-4] + (b"A" if last != b"A" else b"B") + encrypted[1][-3:]
    done = cli.run("decrypt", *BY_FIELD, stdin=b"".join(encrypted))
    assert done.returncode == 3
    assert done.stdout == data[0] + encrypted[1] + data[2]
    assert b"line 2, field name:" in done.stderr


def test_plain_value_is_kept_by_decrypt(cli):
    encrypt(cli, GOOD)
    done = cli.run("decrypt", *BY_FIELD, stdin=GOOD)
    assert (done.returncode, done.stdout) == (3, GOOD)
    assert b"line 1, field name: E_FORMAT" in done.stderr


def test_value_that_no_json_string_can_hold_is_kept_by_decrypt(cli):
    value = cli.ok("encrypt", "--tenant", "acme", stdin=b"\xff\x00secret").strip()
    line = b'{"tenant":"acme","name":"%s"}\n' % value
    done = cli.run("decrypt", *BY_FIELD, stdin=line)
    assert (done.returncode, done.stdout) == (3, line)
    assert b"line 1, field name: the value is not UTF-8" in done.stderr
    assert b"secret" not in done.stderr


# ---- the call ------------------------------------------------------------------------------------

WRONG_CALLS = {
    "no_fields": (("--tenant", "acme"), "--jsonl wants --fields A,B"),
    "columns": (("--columns", "name", "--tenant", "acme"), "--columns goes with --csv"),
    "csv_too": (("--csv", "--fields", "name", "--tenant", "acme"), "either --csv or --jsonl"),
    "tenant_field_is_encrypted": (("--fields", "tenant", "--tenant-column", "tenant"),
                                  "has to stay readable"),
    "tenant_and_tenant_column": (("--fields", "name", "--tenant", "a", "--tenant-column", "tenant"),
                                 "either --tenant ID or --tenant-column FIELD"),
    "neither": (("--fields", "name"), "either --tenant ID or --tenant-column FIELD"),
    "empty_name": (("--fields", "name,", "--tenant", "a"), "a name of a field is wanted"),
    "name_that_is_not_utf8": (("--fields", b"\xff", "--tenant", "a"), "a name of a field is wanted"),
    "context_without_equals": (("--fields", "name", "--tenant", "a", "--context", "row"),
                               "NAME=VALUE"),
    "encrypted_field_in_context": (("--fields", "name", "--tenant", "a", "--context", "n={name}"),
                                   "field `name` is encrypted itself"),
    "brace_never_closed": (("--fields", "name", "--tenant", "a", "--context", "n={id"),
                           "`{` without `}`"),
    "no_threads": (("--fields", "name", "--tenant", "a", "--threads", "0"), "from 1 to 8"),
    "nine_threads": (("--fields", "name", "--tenant", "a", "--threads=9"), "from 1 to 8"),
    "threads_in_words": (("--fields", "name", "--tenant", "a", "--threads=2x"), "from 1 to 8"),
}


@pytest.mark.parametrize("args, why", WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_wrong_call_names_what_is_wrong(cli, command, args, why):
    assert why in cli.fails(2, command, "--jsonl", *args, stdin=GOOD)


@pytest.mark.parametrize("option, format", [("--fields=a", "--jsonl"), ("--columns=a", "--csv"),
                                            ("--threads=2", "--csv or --jsonl"),
                                            ("--tenant-column=a", "--csv or --jsonl"),
                                            ("--rejects=a", "--csv or --jsonl")])
def test_options_of_files_need_a_format(cli, option, format):
    said = cli.fails(2, "encrypt", "--tenant", "acme", option)
    assert said.endswith(f"{option.split('=')[0]} goes with {format}\n")


def test_fields_are_not_for_csv(cli):
    assert "--fields goes with --jsonl" in cli.fails(2, "encrypt", "--csv", "--fields=a",
                                                     "--tenant=a", stdin=b"a\n")


# ---- contexts ------------------------------------------------------------------------------------

def test_F62_R10_row_in_the_context_stops_moves_between_lines(cli):
    context = ("--context", "field=people.name", "--context", "row={id}")
    data = b'{"id":1,"tenant":"acme","name":"Ada"}\n{"id":"2","tenant":"acme","name":"Bob"}\n'
    encrypted = encrypt(cli, data, *context)
    assert decrypt(cli, encrypted, *context) == data
    done = cli.run("decrypt", *BY_FIELD, *context, stdin=encrypted.replace(b'"2"', b"3"))
    assert done.returncode == 3
    assert b"line 2, field name: E_AUTH" in done.stderr


@pytest.mark.parametrize("id, text", [(b"7", "7"), (b'"7"', "7"), (b'"a \\"b\\" \\u00e9"', 'a "b" é'),
                                      (b"-1.50e3", "-1.50e3")])
def test_context_with_a_field_equals_the_context_with_its_value(cli, id, text):
    data = b'{"id":%s,"tenant":"acme","name":"Ada"}\n' % id
    value = read(encrypt(cli, data, "--context", "row=no. {id} {{x}"))["name"]
    assert cli.ok("decrypt", "--tenant", "acme", "--context", f"row=no. {text} {{x}}",
                  stdin=value.encode()) == b"Ada"


NO_CONTEXT = {"nul": rb'"\u0000"', "too_long": b'"%s"' % (b"x" * 257), "null": b"null",
              "true": b"true", "object": b"{}"}


@pytest.mark.parametrize("value", NO_CONTEXT.values(), ids=NO_CONTEXT.keys())
def test_field_that_cannot_be_a_context_makes_a_bad_line(cli, tmp_path, value):
    line = b'{"id":%s,"tenant":"acme","name":"Ada"}\n' % value
    done = cli.run("encrypt", *BY_FIELD, "--context", "row={id}", "--rejects", tmp_path / "bad",
                   stdin=line + GOOD)
    assert done.returncode == 3
    assert (tmp_path / "bad").read_bytes() == line
    assert b"line 1, field id:" in done.stderr


def test_field_missing_for_the_context_makes_a_bad_line(cli):
    done = cli.run("encrypt", *BY_FIELD, "--context", "row={row}", stdin=GOOD)
    assert done.returncode == 1
    assert b"line 1, field row: a context value is wanted here" in done.stderr


# ---- files with random content -------------------------------------------------------------------

STRINGS = ('""', '"a"', '"Zoë"', r'"\u0000"', r'"\ud83e\udd89"', '"🦉"', r'"\""', r'"\\"', r'"\/"',
           '"dk1.1.AAAA"', '"{id}"', '"x y"', '"\x7f"')
BAD_STRINGS = (r'"\ud800"', r'"\x"', '"\t"', '"', '"\udcff"')
OTHERS = ("null", "null", "1", "-0.50", "true", "[]", '{"name":"x"}', "1e5", "123456789012345678901")
BAD_OTHERS = ("NaN", "01", "1.", "[1,]", "{", '{"a":1,"a":2}', "[" * 16 + "]" * 16, "'x'", "")
TENANTS = ('"acme"', '"globex"', r'"\u0061"', "7", '"3F2504E0-4F89-41D3-9A0C-0305E82C3301"')
NO_TENANTS = ('""', '"a b"', "null", "true", r'"\u0000"', '"é"', "[]")


class RandomFile:
    """A JSONL file that mixes good lines with most mistakes there are."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.error_rate = self.dice.choice((0, 0, 0.05, 0.3))

    def wrong(self):
        return self.dice.random() < self.error_rate

    def data(self):
        count = self.dice.randrange(12)
        text = b"".join(self.line() + self.dice.choice((b"\n", b"\n", b"\r\n")) for _ in range(count))
        cut = self.dice.randrange(1, 3) if self.dice.random() < 0.2 else 0
        return self.dice.choice((b"", b"", b"\xef\xbb\xbf")) + text[:len(text) - cut]

    def blank(self):
        return self.dice.choice(("", "", "", " ", "\t", "\r"))

    def line(self):
        if self.dice.random() < 0.1:
            return self.dice.choice((b"", b" ", b"\t\r"))
        members = [("tenant", self.dice.choice(NO_TENANTS if self.wrong() else TENANTS)),
                   ("id", self.value()), ("x", self.value())]
        members += [(name, self.field()) for name in ("name", "note") if self.dice.random() < 0.8]
        if self.wrong():
            members.append(self.dice.choice(members))
        self.dice.shuffle(members)
        text = ",".join(f"{self.blank()}{self.name(name)}{self.blank()}:{self.blank()}{value}"
                        for name, value in members)
        ends = self.dice.choice(("{]", "[}", "{}}", "{", "{,}")) if self.wrong() else "{}"
        return f"{ends[0]}{text}{self.blank()}{ends[1:]}".encode("utf-8", "surrogateescape")

    def name(self, name):
        if self.dice.random() < 0.2:
            return f'"\\u{ord(name[0]):04x}{name[1:]}"'
        return f'"{name}"'

    def field(self):
        if self.wrong():
            return self.dice.choice(BAD_STRINGS + OTHERS)
        return self.dice.choice((*STRINGS, "null"))

    def value(self):
        return self.dice.choice(BAD_OTHERS + BAD_STRINGS if self.wrong() else OTHERS + STRINGS)


def check_random_file(cli, data, rejects):
    """Encrypts and decrypts it as the model says; the encrypted file and its plain text."""
    rejects.unlink(missing_ok=True)
    good, bad = RULES.split(data)
    done = cli.run("encrypt", *BY_FIELD, "--rejects", rejects, stdin=data)
    assert done.returncode == (3 if bad else 0), data
    assert rejects.read_bytes() == bad, data
    check_encrypted(good, done.stdout)
    check_same(good, decrypt(cli, done.stdout))
    return done.stdout, good


def test_random_files_follow_the_rules(cli, tmp_path):
    files = [RandomFile(seed).data() for seed in range(RANDOM_FILES)]
    pairs = [check_random_file(cli, data, tmp_path / "bad") for data in files]
    assert sum(len(lines(good)[1]) for _, good in pairs) > RANDOM_FILES * 5 / 3
    assert sum(RULES.split(data)[1] != b"" for data in files) > RANDOM_FILES / 6
    cli.ok("rotate", "--all")
    for encrypted, good in pairs:
        check_same(good, decrypt(cli, encrypted))


def test_random_bytes_never_pass_through_encrypt_unread(cli, tmp_path):
    """Whatever the bytes are, the output is what the model says is good."""
    dice = random.Random(21)
    for _ in range(RANDOM_BYTES):
        start = dice.choice((b"", b'{"tenant":"a",', b'{"tenant":"a","name":'))
        rest = bytes(dice.choices(b'a1,:{}[]"\\ \n\r\0\xff', k=dice.randrange(60)))
        check_random_file(cli, start + rest, tmp_path / "bad")
