"""report --cost: what was asked of the providers, beside what their servers counted."""

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser

import pytest

from cloud_tool import aws, cloud, machine  # noqa: F401
from cli_tool import Cli
from servers import new_database

SECRET = b"+44 20 7946 0018"
PRICE = {"usdPer10000Calls": 0.03, "usdKeyPerMonth": 1, "freeCallsPerMonth": 20000}


def change(cli, sql):
    with closing(sqlite3.connect(cli.database)) as registry, registry:
        registry.executescript(sql)


def cost_of(cli, *more):
    return cli.json("report", "--cost", *more, schema="report-cost")


def asked(cloud, before, service="kms"):
    """By the server's own count, since then: {operation: (calls, failed)}."""
    found = {}
    for one in cloud.requests()[len(before):]:
        if one["service"] == service:
            calls, failed = found.get(one["operation"], (0, 0))
            found[one["operation"]] = (calls + 1, failed + (one["status"] != 200))
    return found


def told(report, provider="aws-kms"):
    by_name = {one["provider"]: one for one in report["providers"]}
    return {one["operation"]: (one["calls"], one["failed"])
            for one in by_name[provider]["operations"]}


def test_calls_by_operation_are_those_of_the_server(cloud, aws):
    aws.ok("init")
    before = cloud.requests()
    values = [aws.ok("encrypt", "--tenant", f"t{i}", stdin=SECRET) for i in range(3)]
    for i in range(3):
        aws.ok("decrypt", "--tenant", f"t{i}", stdin=values[i])
    cloud.control("script", service="kms", times=1, answers=[{"fault": "throttle"}])
    aws.ok("decrypt", "--tenant", "t0", stdin=values[0])
    report = cost_of(aws)
    assert told(report) == asked(cloud, before)
    assert sum(failed for _, failed in told(report).values()) == 1
    only, = report["providers"]
    assert only["kmsKeyId"] == cloud.env["AWS_KEY_ARN"]
    assert {name: only[name] for name in PRICE} == PRICE
    assert only["calls"] == sum(calls for calls, _ in told(report).values())
    assert only["forecastCallsPerMonth"] == only["calls"] * 30  # of one day, and no less
    assert only["forecastUsdPerMonth"] == 1  # all of it is below what costs nothing
    assert report["cache"]["misses"] == 7


def test_forecast_beside_what_it_would_be_without_the_cache(cloud, aws, tmp_path):
    aws.ok("init")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"phone": f"+44 {i}"}) + "\n" for i in range(20000)))
    aws.ok("encrypt", "--tenant", "acme", "--jsonl", "--fields", "phone", stdin=rows.read_bytes())
    report = cost_of(aws)
    only, = report["providers"]
    assert report["cache"]["hits"] == 20000 - report["cache"]["misses"]
    uncached = (only["calls"] + report["cache"]["hits"]) * 30
    assert only["forecastCallsPerMonthWithoutCache"] == uncached
    assert only["forecastUsdPerMonthWithoutCache"] == pytest.approx(
        1 + (uncached - 20000) * 0.03 / 10000, abs=0.001)
    assert only["forecastCallsPerMonth"] < uncached / 10
    assert report["cache"]["hitRate"] > 0.9


def test_days_that_are_over_count_as_long_as_they_are_asked_for(cloud, aws):
    aws.ok("init")
    change(aws, "DELETE FROM call_counts")
    change(aws, "INSERT INTO call_counts VALUES (date('now', '-9 days'), 'aws-kms', 'Decrypt', "
              "1000000, 7), (date('now', '-40 days'), 'aws-kms', 'Decrypt', 5, 0), "
              "(date('now', '-9 days'), 'azure-key-vault', 'decrypt', 10, 0)")
    report = cost_of(aws)
    assert told(report)["Decrypt"][1] == 7 and 1000000 <= told(report)["Decrypt"][0] < 1000010
    assert 9 <= report["measuredDays"] <= 10
    per_month = report["providers"][0]["forecastCallsPerMonth"]
    assert 3000000 <= per_month <= 3333400
    assert report["providers"][0]["forecastUsdPerMonth"] == pytest.approx(
        1 + (per_month - 20000) * 0.03 / 10000, abs=0.01)
    assert report["providers"][1]["kmsKeyId"] is None  # it was used, and is configured no more
    assert told(cost_of(aws, "--days", "5")).get("Decrypt", (0, 0))[0] < 10
    assert told(cost_of(aws, "--days", "60"))["Decrypt"][0] >= 1000005


def test_two_providers_and_the_kind_of_the_key_in_the_vault(cloud, aws, tmp_path):
    aws.env.update(
        AZURE_KEY_VAULT_URL=cloud.env["AZURE_VAULT"], AZURE_KEY_NAME="kek",
        AZURE_TENANT_ID=cloud.env["AZURE_TENANT"], AZURE_CLIENT_ID=cloud.env["AZURE_CLIENT"],
        AZURE_CLIENT_SECRET=cloud.env["AZURE_SECRET"],
        AZURE_AUTHORITY_HOST=cloud.env["FAKE_TLS"], KMS_PROVIDER="aws-kms",
        KMS_SECONDARY_PROVIDER="azure-key-vault")
    aws.ok("init")
    aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    report = cost_of(aws)
    first, second = report["providers"]
    assert (first["provider"], second["provider"]) == ("aws-kms", "azure-key-vault")
    assert second["keyKind"].startswith("RSA") and second["calls"] > 0
    assert {"encrypt", "decrypt"} <= set(told(report, "azure-key-vault"))
    total = first["forecastUsdPerMonth"] + second["forecastUsdPerMonth"]
    assert report["forecastUsdPerMonth"] == pytest.approx(total, abs=0.002)


def test_many_nodes_on_one_database_add_up(cloud, aws, postgres, tmp_path):
    with new_database(postgres) as url:
        aws.env.update(DATABASE_URL=url)
        aws.ok("init")
        before = cloud.requests()
        (tmp_path / "other").mkdir()
        other = Cli(tmp_path / "other")
        other.env.update({name: value for name, value in aws.env.items()
                          if name.startswith(("AWS_", "KMS_CA", "DATABASE"))})
        value = aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
        assert other.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET
        report = cost_of(other)
        assert told(report) == asked(cloud, before)
        assert report["cache"]["misses"] == 2


def test_local_master_key_costs_nothing_and_keeps_no_counts(tmp_path):
    cli = Cli(tmp_path)
    cli.ok("init")
    cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    report = cost_of(cli)
    assert report["forecastUsdPerMonth"] == 0 and report["cache"]["hitRate"] is None
    assert cli.query("SELECT count(*) FROM call_counts") == [(0,)]
    assert "Nobody is paid for it." in cli.ok("report", "--cost").decode()


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.outside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.outside += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_pages_for_people(cloud, aws):
    aws.ok("init")
    change(aws, "INSERT INTO call_counts VALUES (date('now'), 'aws-kms', '<b>|x' || char(27), 3, "
                "0)")
    text = aws.ok("report", "--cost").decode()
    assert re.search(r"^  Decrypt +\d+ +0$", text, re.M) and "\x1b" not in text
    assert "Forecast: " in text and "$1.00 a month" in text
    markdown = aws.ok("report", "--cost", "--format", "md").decode()
    assert "| Decrypt | " in markdown and "\\<b\\>\\|x" in markdown
    page = Page(aws.ok("report", "--cost", "--format", "html").decode())
    assert page.open == [] and page.outside == []
    assert "Decrypt" in page.cells and any(cell.startswith("<b>|x") for cell in page.cells)
    assert json.loads(aws.ok("report", "--cost", "--format", "json"))["report"] == "cost"


@pytest.mark.parametrize("words, says", [
    ((), "--cost"), (("--cost", "--days", "0"), "1 to 366"), (("--cost", "--days", "367"), "366"),
    (("--cost", "--format", "pdf"), "text, md, html or json"),
    (("--cost", "--json", "--format", "md"), "--json is json")])
def test_what_is_no_report_is_refused(tmp_path, words, says):
    assert says in Cli(tmp_path).fails(2, "report", *words)


def test_counts_that_cannot_be_kept_stop_nothing(cloud, aws):
    aws.ok("init")
    value = aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    change(aws, "CREATE TRIGGER no_counts BEFORE INSERT ON call_counts BEGIN SELECT RAISE(ABORT, "
              "'no'); END")
    done = aws.run("decrypt", "--tenant", "acme", stdin=value)
    assert done.returncode == 0 and done.stdout == SECRET and b"calls_not_kept" in done.stderr
