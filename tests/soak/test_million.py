"""A file of a million rows: the same bytes come back, in little memory."""

import hashlib
import json
import os
import random

import pytest

ROWS = int(os.environ.get("SOAK_ROWS", 1_000_000))
TENANTS = 50
MEMORY_KIB = 32 * 1024
FORMATS = {"csv": ("--csv", "--columns"), "jsonl": ("--jsonl", "--fields")}

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


def csv_row(dice, number):
    phone = "" if dice.random() < 0.1 else f"+{dice.randrange(10**11, 10**12)}"
    end = "\r\n" if dice.random() < 0.5 else "\n"
    return f"{number},tenant-{dice.randrange(TENANTS)},{name(dice)},{phone}{end}"


def jsonl_row(dice, number):
    """What decrypt writes again byte for byte: no escape that JSON does not need."""
    person = {"id": number, "tenant": f"tenant-{dice.randrange(TENANTS)}", "name": name(dice),
              "phone": None if dice.random() < 0.1 else f"+{dice.randrange(10**11, 10**12)}",
              "more": [number, {"name": "\u00e9"}]}
    return json.dumps(person, ensure_ascii=False) + dice.choice(("\n", "\r\n"))


ROWS_OF = {"csv": csv_row, "jsonl": jsonl_row}


@pytest.fixture(scope="module", params=FORMATS)
def plain(request, tmp_path_factory):
    """The file, always the same."""
    path = tmp_path_factory.mktemp("million") / f"plain.{request.param}"
    dice = random.Random(1_000_000)
    with open(path, "w", encoding="utf-8", newline="") as file:
        if request.param == "csv":
            file.write("id,tenant,name,phone\n")
        file.writelines(ROWS_OF[request.param](dice, number) for number in range(ROWS))
    return path


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_million_rows_come_back_before_and_after_rotation(cli, tmp_path, plain):
    choice = (*FORMATS[plain.suffix[1:]], "name,phone", "--tenant-column", "tenant")
    encrypted, back = tmp_path / "encrypted", tmp_path / "back"
    memory = []

    def decrypt(threads):
        memory.append(cli.measured("decrypt", *choice, "--threads", threads, source=encrypted,
                                   target=back))
        assert digest(back) == digest(plain)

    memory.append(cli.measured("encrypt", *choice, source=plain, target=encrypted))
    decrypt(1)
    cli.ok("rotate", "--all")
    decrypt(2)
    decrypt(8)
    assert max(memory) < MEMORY_KIB
    keys = cli.json("keys", "list", schema="keys-list")["keys"]
    assert len(keys) == 2 * TENANTS
    assert sum(key["messages"] for key in keys) > ROWS
