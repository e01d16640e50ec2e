"""A file of a million rows: the same bytes come back, in little memory."""

import hashlib
import os
import random
import subprocess
import sys

import pytest

import cli_tool

ROWS = int(os.environ.get("SOAK_ROWS", 1_000_000))
TENANTS = 50
MEMORY_KIB = 32 * 1024
CHOICE = ("--csv", "--columns", "name,phone", "--tenant-column", "tenant")

# First and last names in the scripts that people write them in.
NAMES = (
    ("Ada Zoë João Siân Łukasz Þóra Ngũgĩ", "Lovelace Müller Gonçalves O'Brien Wałęsa Ağa"),
    ("Αλέξανδρος Ελένη", "Παπαδόπουλος Καζαντζάκη"),
    ("Анна Фёдор Ґанна", "Ахматова Достоевский Їжакевич"),
    ("שרה יוסף", "לוי כהן"),
    ("محمد فاطمة", "الخوارزمي الزهراء"),
    ("अमृता रवि", "शेरगिल ठाकुर"),
    ("தமிழ் கமலா", "செல்வன் தாஸ்"),
    ("สมชาย มาลี", "ใจดี ศรีสุข"),
    ("小龙 秀英 明", "李 王 欧阳"),
    ("さくら 健", "山田 髙橋"),
    ("지우 민준", "김 박"),
    ("გიორგი ნინო", "რუსთაველი ჭავჭავაძე"),
    ("Արամ Անի", "Խաչատրյան Թումանյան"),
    ("ሰላም አበበ", "ተስፋዬ ቢቂላ"),
    ("🦉 e\u0301ric", "\u200dx 𐍈𐌰"),
)
SCRIPTS = [(first.split(), last.split()) for first, last in NAMES]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def name(dice):
    first, last = dice.choice(SCRIPTS)
    text = f"{dice.choice(first)} {dice.choice(last)}"
    kind = dice.random()
    if kind < 0.02:
        return '""' if kind < 0.01 else ""
    if kind < 0.2:
        return quoted(f'{text}, "{dice.choice(first)}"')
    return quoted(text + "\nc/o") if kind < 0.21 else text


def row(dice, number):
    phone = "" if dice.random() < 0.1 else f"+{dice.randrange(10**11, 10**12)}"
    end = "\r\n" if dice.random() < 0.5 else "\n"
    return f"{number},tenant-{dice.randrange(TENANTS)},{name(dice)},{phone}{end}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The file, always the same."""
    path = tmp_path_factory.mktemp("million") / "plain.csv"
    dice = random.Random(1_000_000)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("id,tenant,name,phone\n")
        file.writelines(row(dice, number) for number in range(ROWS))
    return path


# A process inherits the peak of the one that started it, so that one has to be small.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def run(cli, command, source, target):
    """Runs it from file to file; the most memory it held, in KiB."""
    argv = [sys.executable, "-S", "-c", MEASURE, cli_tool.PROGRAM, command, *CHOICE]
    with open(source, "rb") as stdin, open(target, "wb") as stdout:
        done = subprocess.run(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=cli.env,
                              cwd=cli.folder, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_million_rows_come_back_before_and_after_rotation(cli, tmp_path, plain):
    encrypted, back = tmp_path / "encrypted.csv", tmp_path / "back.csv"
    memory = [run(cli, "encrypt", plain, encrypted), run(cli, "decrypt", encrypted, back)]
    assert digest(back) == digest(plain)
    cli.ok("rotate", "--all")
    memory.append(run(cli, "decrypt", encrypted, back))
    assert digest(back) == digest(plain)
    assert max(memory) < MEMORY_KIB
    keys = cli.json("keys", "list", schema="keys-list")["keys"]
    assert len(keys) == 2 * TENANTS
    assert sum(key["messages"] for key in keys) > ROWS
