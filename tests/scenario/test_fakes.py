"""The fake of AWS and Azure does what it says; the vendors' own clients are its judges."""

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli_tool import ROOT
from fakes import judges
from fakes.cloud import Cloud, CloudError

pytestmark = pytest.mark.release  # once: nothing in it comes from a build

TOKEN = "/latest/api/token"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
IDENTITY = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"


@pytest.fixture(scope="module")
def running():
    with Cloud() as found:
        yield found


@pytest.fixture
def cloud(running):
    running.control("reset")
    return running


# ---- the judges ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def told(running):
    """What became of each check of a judge; each judge is asked once."""
    found = {}

    def of(judge):
        if judge not in found:
            found[judge] = judges.ask(judge, running.env)
        return found[judge]

    return of


@pytest.fixture(scope="module")
def told_elsewhere(tmp_path_factory):
    found = {}

    def of(judge):
        if judge not in found:
            found[judge] = judges.ask_elsewhere(judge, tmp_path_factory.mktemp("hosts"))
        if found[judge] is None:
            pytest.skip("an ordinary user may have no network namespace here")
        return found[judge]

    return of


@pytest.mark.parametrize("judge,check", [(judge, check) for judge in ("aws", "azure", "tokens")
                                         for check in judges.checks_of(judge)])
def test_judge(told, judge, check):
    assert told(judge)[check] == "", told(judge)[check]


@pytest.mark.parametrize("judge,check", [(judge, check) for judge in ("aws", "azure")
                                         for check in judges.checks_of(judge)])
def test_judge_under_the_services_names(told_elsewhere, judge, check):
    """Endpoints and challenges as they are in the world, with all that clients check of them."""
    assert told_elsewhere(judge)[check] == "", told_elsewhere(judge)[check]


def test_judge_that_finds_something_says_so(running):
    """Its environment is wrong: a check that could not fail would pass."""
    found = judges.ask("aws", {**running.env, "AWS_SECRET": "wrong"})
    assert "InvalidSignatureException" in found["data_key_comes_back"]
    assert sum(map(bool, found.values())) > len(found) / 2


# ---- the program --------------------------------------------------------------------------------

def test_program_ends_with_its_starter_and_clears_up():
    starter = ("import os, signal; from fakes.cloud import Cloud; c = Cloud().__enter__();"
               "print(c.process.pid, c.env['FAKE_CA'], flush=True);"
               "os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True,
                          cwd=ROOT / "tests", timeout=60, check=False)
    pid, path = done.stdout.split()
    until = time.monotonic() + 20
    while time.monotonic() < until and (os.path.exists(path) or is_alive(pid)):
        time.sleep(0.02)
    assert not Path(path).parent.exists() and not is_alive(pid)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_program_with_moto_takes_it_along():
    with Cloud(moto=True) as found:
        answer = ask(found.env["MOTO"], "GET", "/moto-api/data.json")
        assert answer.status == 200 and "moto" not in ask(found.env["FAKE_PLAIN"], "GET", "/").text
        folder = Path(found.env["FAKE_CA"]).parent
        found.process.send_signal(signal.SIGTERM)
        found.process.wait(30)
    assert not folder.exists()
    address = urlsplit(found.env["MOTO"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port)).close()


def test_program_that_does_not_start_is_an_error(capfd):
    with pytest.raises(CloudError, match="did not start"), Cloud(tls_port=70000):
        pass
    assert "port must be 0-65535" in capfd.readouterr().err


def test_files_are_where_the_program_says(cloud):
    for name in ("FAKE_CA", "AZURE_CERT", "AZURE_FEDERATED", "AWS_WEB_IDENTITY_TOKEN_FILE",
                 "AWS_CONTAINER_TOKEN_FILE"):
        assert Path(cloud.env[name]).stat().st_size > 0
    assert Path(cloud.env["AZURE_CERT"]).stat().st_mode & 0o777 == 0o600


def test_control_says_what_it_does_not_know(cloud):
    for verb, members in (("nothing", {}), ("clock", {"speed": 2}), ("lifetime", {"service": "x"}),
                          ("script", {"service": "kms", "answers": [{"fault": "mood"}]}),
                          ("script", {"service": "kms", "answers": []}),
                          ("set", {"service": "vault", "colour": 1}),
                          ("key", {"name": "none", "enabled": False}),
                          ("key", {"name": "alias/none", "enabled": False}),
                          ("set", {"service": "kms", "colour": 1}),
                          ("key", {"name": "kek", "size_of_hat": 1})):
        with pytest.raises(CloudError):
            cloud.control(verb, **members)
    tls = connect(cloud.env["FAKE_TLS"], trusting(cloud))
    assert roundtrip(tls, request("POST", "/_control/counts", body=b"{}")).status == 404


# ---- TLS ----------------------------------------------------------------------------------------

def trusting(cloud):
    return ssl.create_default_context(cafile=cloud.env["FAKE_CA"])


@pytest.mark.parametrize("name", [
    "localhost", "127.0.0.1", "any.vault.azure.net", "login.microsoftonline.com",
    "kms.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"])
def test_good_certificate_is_good_for(cloud, name):
    connect(cloud.env["FAKE_TLS"], trusting(cloud), name).close()


@pytest.mark.parametrize("port,why", [
    ("FAKE_EXPIRED", "certificate has expired"), ("FAKE_WRONG_HOST", "Hostname mismatch"),
    ("FAKE_SELF_SIGNED", "self.signed certificate")])
def test_bad_certificate_is_bad_for_its_one_reason(cloud, port, why):
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        connect(cloud.env[port], trusting(cloud))
    anybody = ssl._create_unverified_context()
    assert roundtrip(connect(cloud.env[port], anybody), request("GET", "/")).status == 404


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
def test_old_tls_is_all_that_one_port_has(cloud):
    new = trusting(cloud)
    new.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python leaves that to OpenSSL
    with pytest.raises(ssl.SSLError, match="(?i)version|protocol"):
        connect(cloud.env["FAKE_TLS10"], new)
    old = trusting(cloud)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with connect(cloud.env["FAKE_TLS10"], old) as found:
        assert found.version() == "TLSv1.1"


# ---- IMDS ---------------------------------------------------------------------------------------

def test_imds_tells_nothing_without_a_token_that_holds(cloud):
    plain = cloud.env["FAKE_PLAIN"]
    role = "/latest/meta-data/iam/security-credentials/"
    for headers in ({}, {"X-aws-ec2-metadata-token": "x"}):
        assert ask(plain, "GET", role, headers).status == 401
        assert ask(plain, "GET", role + "dekhand-node", headers).status == 401
    for ttl in ({}, {TTL: "0"}, {TTL: "21601"}, {TTL: "x"}):
        assert ask(plain, "PUT", TOKEN, ttl).status == 400
    assert ask(plain, "PUT", TOKEN, {TTL: "60", "X-Forwarded-For": "10.0.0.1"}).status == 403
    token = {"X-aws-ec2-metadata-token": ask(plain, "PUT", TOKEN, {TTL: "60"}).text}
    assert ask(plain, "GET", role, token).text == "dekhand-node"
    found = ask(plain, "GET", role + "dekhand-node", token).json
    assert found["Code"] == "Success" and found["AccessKeyId"].startswith("ASIA")
    assert ask(plain, "GET", role + "other", token).status == 404
    cloud.control("clock", offset=61)
    assert ask(plain, "GET", role, token).status == 401


def test_container_credentials_want_the_token_of_the_file(cloud):
    plain, path = cloud.env["FAKE_PLAIN"], cloud.env["AWS_CONTAINER_PATH"]
    token = Path(cloud.env["AWS_CONTAINER_TOKEN_FILE"]).read_text()
    assert ask(plain, "GET", path, {"Authorization": token}).json["Token"]
    cloud.control("rotate_credentials", service="container")
    assert ask(plain, "GET", path, {"Authorization": token}).status == 401
    assert ask(plain, "GET", path).status == 401
    token = Path(cloud.env["AWS_CONTAINER_TOKEN_FILE"]).read_text()
    assert ask(plain, "GET", path, {"Authorization": token}).status == 200
    assert ask(plain, "GET", path + "x", {"Authorization": token}).status == 404


def test_managed_identity_wants_its_header(cloud):
    plain = cloud.env["FAKE_PLAIN"]
    assert ask(plain, "GET", IDENTITY).status == 400
    found = ask(plain, "GET", IDENTITY, {"Metadata": "true"}).json
    assert found["expires_in"] == "3599" and found["expires_on"].isdecimal()
    for left_out in ("api-version=2018-02-01&", "&resource=https://vault.azure.net"):
        path = IDENTITY.replace(left_out, "")
        assert ask(plain, "GET", path, {"Metadata": "true"}).status == 400
    path = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net"
    assert ask(plain, "GET", path).status == 401
    header = {"X-IDENTITY-HEADER": cloud.env["AZURE_IDENTITY_HEADER"]}
    assert "expires_in" not in ask(plain, "GET", path, header).json
    assert ask(plain, "GET", path + "&client_id=x", header).status == 400


# ---- faults, as bytes ---------------------------------------------------------------------------

class Reply:
    """An answer as it came, and what can be read of it."""

    def __init__(self, raw):
        self.raw = raw
        self.head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = self.head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in
                        (line.partition(": ") for line in lines[1:])}

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def request(method, path, headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}",
             *(f"{name}: {value}" for name, value in dict(headers).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(url, context=None, name=None):
    address = urlsplit(url)
    found = socket.create_connection(("127.0.0.1", address.port), timeout=30)
    if context is None:
        return found
    try:
        return context.wrap_socket(found, server_hostname=name or address.hostname)
    except BaseException:
        found.close()
        raise


def receive(connection):
    """One answer, or what there is of it when the connection ends."""
    raw = b""
    while part := connection.recv(1 << 16):
        raw += part
        head, end, body = raw.partition(b"\r\n\r\n")
        length = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        if end and length and len(body) >= int(length[0].split()[1]):
            break
        if end and b"Transfer-Encoding: chunked" in head and body.endswith(b"\r\n0\r\n\r\n"):
            break
    return raw


def roundtrip(connection, sent):
    with connection:
        connection.sendall(sent)
        return Reply(receive(connection))


def ask(base, method, path, headers=()):
    return roundtrip(connect(base), request(method, path, headers))


@pytest.fixture(params=["FAKE_PLAIN", "FAKE_TLS"])
def spoiled(cloud, request):
    """Asks for a token of a machine, and gets what a fault makes of it, on either kind of port."""
    context = trusting(cloud) if request.param == "FAKE_TLS" else None

    def get(fault=None, **how):
        if fault:
            cloud.control("script", service="identity", answers=[{"fault": fault, **how}])
        return roundtrip(connect(cloud.env[request.param], context), IDENTITY_REQUEST)

    return get


IDENTITY_REQUEST = request("GET", IDENTITY, {"Metadata": "true"})


@pytest.mark.parametrize("port", ["FAKE_PLAIN", "FAKE_TLS"])
def test_end_without_an_answer(cloud, port):
    """Read below TLS, which calls both an end."""
    context = trusting(cloud) if port == "FAKE_TLS" else None
    for fault in ("reset", "close"):
        cloud.control("script", service="identity", answers=[{"fault": fault}])
        with connect(cloud.env[port], context) as connection:
            connection.sendall(IDENTITY_REQUEST)
            if fault == "close":
                until_end(connection)
            else:
                with pytest.raises(ConnectionResetError):
                    until_end(connection)
        assert cloud.requests()[-1]["status"] == 0
    assert roundtrip(connect(cloud.env[port], context), IDENTITY_REQUEST).status == 200


def until_end(connection):
    while select.select([connection], [], [], 30)[0] and os.read(connection.fileno(), 1 << 16):
        pass


def test_hanging_ends_with_release(cloud):
    cloud.control("script", service="identity", answers=[{"fault": "hang"}])
    with connect(cloud.env["FAKE_PLAIN"]) as connection:
        connection.sendall(IDENTITY_REQUEST)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert cloud.requests()[-1]["status"] is None
        assert ask(cloud.env["FAKE_PLAIN"], "GET", IDENTITY, {"Metadata": "true"}).status == 200
        cloud.control("release")
        connection.settimeout(30)
        assert Reply(receive(connection)).json["access_token"]


def test_slow_and_late(cloud, spoiled):
    began = time.monotonic()
    assert spoiled("slow", seconds=0.3).status == 200
    assert time.monotonic() - began >= 0.3
    cloud.control("latency", service="identity", seconds=0.2)
    began = time.monotonic()
    assert spoiled().status == 200
    assert time.monotonic() - began >= 0.2


def test_drip_comes_by_the_byte(cloud):
    cloud.control("script", service="imds", answers=[{"fault": "drip", "seconds": 0.003}])
    with connect(cloud.env["FAKE_PLAIN"]) as connection:
        connection.sendall(request("PUT", TOKEN, {TTL: "60"}))
        parts = []
        while not parts or b"\r\n\r\n" not in b"".join(parts):
            parts.append(connection.recv(100))
        assert len(parts) > 30
        assert Reply(b"".join(parts)).status == 200


def test_truncated_answer(spoiled):
    found = spoiled("truncate")
    assert len(found.body) == int(found.headers["content-length"]) - 64
    assert found.json["access_token"]


def test_chunks(spoiled):
    found = spoiled("chunked")
    assert "content-length" not in found.headers
    pieces = found.body.split(b"\r\n")
    assert [int(size, 16) for size in pieces[::2] if size] == [*map(len, pieces[1:-2:2]), 0]
    assert json.loads(b"".join(pieces[1::2]))["access_token"]
    found = spoiled("bad_chunk")
    assert found.headers["transfer-encoding"] == "chunked"
    assert int(found.body.split(b"\r\n")[0], 16) > 1 << 64


def test_bodies_that_are_no_answer(spoiled):
    found = spoiled("oversize")
    assert len(found.body) == 1 << 20 and found.json
    assert len(spoiled("oversize", bytes=70000).body) == 70000
    found = spoiled("bad_json")
    assert found.status == 200
    with pytest.raises(ValueError):
        assert found.json
    found = spoiled("deep_json")
    assert found.body.count(b"[") == found.body.count(b"]") == 20000
    assert spoiled("empty").raw.endswith(b"\r\n\r\n")
    found = spoiled("html500")
    assert found.status == 500 and found.headers["content-type"] == "text/html"
    found = spoiled("redirect", to="https://elsewhere.example/")
    assert found.status == 307 and found.headers["location"] == "https://elsewhere.example/"


def test_json_that_is_spoiled(spoiled):
    pairs = json.loads(spoiled("duplicate_keys").body, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert names[::2] == names[1::2] and len(set(names)) == len(names) / 2
    assert dict(pairs)["token_type"] == "Bearer" and ["token_type", "reraeB"] in map(list, pairs)
    assert spoiled("nul_in_string").json["token_type"] == "Bearer\0"
    with pytest.raises(UnicodeDecodeError):
        assert spoiled("not_utf8").text
    assert spoiled("wrong_case").json["Token_type"] == "Bearer"
    found = spoiled("no_plaintext").json
    assert "access_token" not in found and "token_type" in found


@pytest.mark.parametrize("service,sent,status,words", [
    ("identity", ("GET", IDENTITY), 429, "too_many_requests"),
    ("imds", ("PUT", TOKEN), 429, "Too Many Requests"),
    ("container", ("GET", "/v2/credentials/x"), 429, "TooManyRequests"),
    ("kms", ("POST", "/", {"X-Amz-Target": "TrentService.Decrypt"}), 400, "ThrottlingException"),
    ("sts", ("POST", "/", {}, b"Action=AssumeRole&Version=2011-06-15"), 400, "<Code>Throttling<"),
    ("iam", ("POST", "/", {}, b"Action=SimulatePrincipalPolicy"), 400, "<Code>Throttling<"),
    ("vault", ("GET", "/keys/kek?api-version=7.4"), 429, '"code": "Throttled"'),
    ("token", ("POST", "/t/oauth2/v2.0/token"), 429, "temporarily_unavailable"),
])
def test_each_service_throttles_in_its_own_words(cloud, service, sent, status, words):
    cloud.control("script", service=service, answers=[
        {"fault": "throttle"}, {"fault": "retry_after", "seconds": 7},
        {"fault": "retry_after", "date": 60, "status": 503}])
    cloud.control("clock", offset=-86400)
    found = [roundtrip(connect(cloud.env["FAKE_PLAIN"]), request(*sent)) for _ in range(3)]
    assert [one.status for one in found] == [status, status, 503]
    assert all(words in one.text for one in found)
    assert "retry-after" not in found[0].headers and found[1].headers["retry-after"] == "7"
    assert seconds_of(found[2].headers["retry-after"]) - seconds_of(found[2].headers["date"]) == 60


def seconds_of(date):
    return time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))


# ---- scripts, clocks, counts --------------------------------------------------------------------

def test_script_is_followed_and_ends(cloud):
    cloud.control("script", service="imds", operation="Token", times=2, answers=[
        {"status": 418, "headers": {"X-A": "b"}, "body": "tea"}, {"real": True},
        {"status": 202, "json": {"a": 1}}])
    plain = cloud.env["FAKE_PLAIN"]
    assert ask(plain, "GET", "/latest/meta-data/iam/security-credentials/").status == 401
    found = [ask(plain, "PUT", TOKEN, {TTL: "60"}) for _ in range(7)]
    assert [one.status for one in found] == [418, 200, 202, 418, 200, 202, 200]
    assert found[0].text == "tea" and found[0].headers["x-a"] == "b" and found[2].json == {"a": 1}
    cloud.control("script", service="imds", answers=[{"status": 500}], times=-1)
    assert {ask(plain, "PUT", TOKEN, {TTL: "60"}).status for _ in range(20)} == {500}
    cloud.control("unscript")
    assert ask(plain, "PUT", TOKEN, {TTL: "60"}).status == 200


def test_clocks(cloud):
    plain = cloud.env["FAKE_PLAIN"]

    def shown():
        return seconds_of(ask(plain, "GET", "/").headers["date"])

    began = shown()
    cloud.control("clock", offset=1000)
    assert 1000 <= shown() - began < 1060
    cloud.control("clock", date_offset=-5000)  # the Date header says it, and nothing goes by it
    assert -4000 <= shown() - began < -3940
    token = ask(plain, "GET", IDENTITY, {"Metadata": "true"}).json
    assert int(token["expires_on"]) - time.time() > 3599 + 900


def test_counts_and_requests(cloud):
    with connect(cloud.env["FAKE_PLAIN"]) as connection:
        for ttl in ("60", "0"):  # on one connection
            connection.sendall(request("PUT", TOKEN, {TTL: ttl}, b"body \xff"))
            assert receive(connection)
    connect(cloud.env["FAKE_TLS"], trusting(cloud)).close()
    until = time.monotonic() + 10
    while cloud.counts()["connections"] < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert cloud.counts() == {"connections": 2, "imds.Token": 2}
    first, second = cloud.requests()
    assert (first["status"], second["status"]) == (200, 400)
    assert first["path"] == TOKEN and first["headers"][TTL.lower()] == "60"
    assert first["body"] == "body \ufffd"
    for _ in range(250):
        ask(cloud.env["FAKE_PLAIN"], "GET", "/latest/meta-data/iam/security-credentials/x")
    assert len(cloud.requests()) == 200 and cloud.counts()["imds.Credentials"] == 250
    cloud.control("reset")
    assert cloud.counts() == {"connections": 0} and cloud.requests() == []


def test_many_at_once(cloud):
    cloud.control("latency", service="identity", seconds=0.3)
    began = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda _: ask(cloud.env["FAKE_PLAIN"], "GET", IDENTITY,
                                            {"Metadata": "true"}).status, range(40)))
    assert found == [200] * 40 and time.monotonic() - began < 0.3 * 20
