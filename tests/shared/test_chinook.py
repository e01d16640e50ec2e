"""A real file of customers, encrypted and decrypted; it stands outside the project."""

import os
from pathlib import Path

import pytest

from csv_model import VALUE, Table

CUSTOMERS = Path(os.environ["DEKHAND_DATA"]) / "data" / "chinook-customers.csv"
COLUMNS = ("Phone", "Fax", "Email")
CHOICE = ("--csv", "--columns", ",".join(COLUMNS), "--tenant-column")


@pytest.fixture(scope="module")
def customers():
    return CUSTOMERS.read_bytes()


def test_customers_come_back_byte_for_byte(cli, tmp_path, customers):
    by_employee = (*CHOICE, "SupportRepId")
    cli.ok("encrypt", *by_employee, "-o", "e.csv", stdin=customers)
    encrypted = (tmp_path / "e.csv").read_bytes()
    assert Table(encrypted).blanked(COLUMNS) == Table(customers).blanked(COLUMNS)
    assert all(VALUE.fullmatch(value) for value in Table(encrypted).values(COLUMNS))
    assert cli.ok("decrypt", *by_employee, stdin=encrypted) == customers
    cli.ok("rotate", "--all")
    assert cli.ok("decrypt", *by_employee, stdin=encrypted) == customers


def test_no_phone_number_or_address_is_left_in_the_encrypted_file(cli, customers):
    encrypted = cli.ok("encrypt", *CHOICE, "SupportRepId", stdin=customers)
    values = [value for value in Table(customers).values(COLUMNS) if value]
    assert len(values) > 100
    assert [value for value in values if value in encrypted] == []


def test_countries_with_a_blank_are_bad_rows(cli, tmp_path, customers):
    """`United Kingdom` is no tenant id."""
    good, bad = Table(customers).split("Country")
    rejects = tmp_path / "bad.csv"
    done = cli.run("encrypt", *CHOICE, "Country", "--rejects", rejects, stdin=customers)
    assert done.returncode == 3
    assert bad and rejects.read_bytes() == bad
    assert cli.ok("decrypt", *CHOICE, "Country", stdin=done.stdout) == good


def test_one_key_version_for_each_employee(cli, customers):
    cli.ok("encrypt", *CHOICE, "SupportRepId", stdin=customers)
    cli.ok("rotate", "--all")
    table = Table(customers)
    employees = {row.value(table.names.index("SupportRepId")).decode() for row in table.rows}
    keys = cli.json("keys", "list", schema="keys-list")["keys"]
    assert {(key["tenantId"], key["version"]) for key in keys} == {
        (employee, version) for employee in employees for version in (1, 2)}
