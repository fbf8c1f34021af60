"""The files of service/deploy: each checked by its own tool, and the proxies run in front of a real service."""

import base64
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from service.settings import Settings
from tests.conftest import ROOT, missing
from tests.end_to_end.conftest import Service, free_port

DEPLOY = ROOT / "service" / "deploy"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
USER, PASSWORD = "alice", "correct-horse"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
[STORE_PASSWORD] = re.findall(
    r"^```sh\n(password=.*?)\n```$", (DEPLOY / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
TEMPORARY = "".join(f"{each}_temp_path temp;" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
ONE_REQUEST = {
    "rate=100r/s": "rate=1r/m",
    "burst=200": "burst=1",
    "gt 100": "gt 1",
    "http_req_rate(1s)": "http_req_rate(1h)",
}


class Proxy:
    """nginx or HAProxy with our file, but for its ports, folders and user, in front of `upstream`."""

    def __init__(self, name: str, certificate: Path, upstream: int, changes: dict[str, str] | None = None) -> None:
        self.name, self.port, self.certificate = name, free_port(), certificate
        self.folder = certificate.parent
        self.url = f"https://127.0.0.1:{self.port}"
        text = (DEPLOY / FILES[name]).read_text()
        for old, new in {
            f"/etc/{name}/": f"{self.folder}/",
            f"/var/log/{name}/": f"{self.folder}/",
            "/run/nginx.pid": f"{self.folder}/pid",
            "/run/haproxy/admin.sock": f"{self.folder}/socket",
            "http {": "http {" + TEMPORARY,
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "    user haproxy\n    group haproxy\n": "",
            "443 ssl": f"{self.port} ssl",
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            **(changes or {}),
        }.items():
            text = text.replace(old, new)
        file = self.folder / f"{name}-{self.port}"
        self.output = file.with_suffix(".output")
        file.write_text(text)
        nginx = ["nginx", "-p", str(self.folder), "-e", "stderr", "-c", str(file)]
        haproxy = ["haproxy", "-f", str(file)]
        self.check = [*nginx, "-t"] if name == "nginx" else [*haproxy, "-c"]
        self.run = [*nginx, "-g", "daemon off;"] if name == "nginx" else [*haproxy, "-db"]

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        with self.output.open("w") as output:
            process = subprocess.Popen(self.run, stdout=output, stderr=output)
        try:
            while not self.listens():
                assert process.poll() is None, self.output.read_text()
            yield self
        finally:
            process.terminate()
            process.wait()

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, verify=str(self.certificate), timeout=30)

    def post(self, path: str, body: bytes, password: str | None = PASSWORD) -> requests.Response:
        return requests.post(
            self.url + path,
            data=body,
            headers={"Content-Type": "application/json"},
            auth=None if password is None else (USER, password),
            verify=str(self.certificate),
            timeout=30,
        )


@pytest.fixture(scope="module", params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    if not shutil.which(request.param):
        missing(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def certificate(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, with its key, in a folder of its own beside the passwords."""
    if not shutil.which("openssl"):
        missing("openssl")
    folder = tmp_path_factory.mktemp(name)
    key, certificate, both = folder / "key", folder / "certificate", folder / "neural-adder.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(certificate.read_text() + key.read_text())
    [command] = [line for line in STORE_PASSWORD.splitlines() if f"/etc/{name}/" in line]
    command = command.replace(f"/etc/{name}", str(folder))
    subprocess.run(["bash", "-c", command], env=os.environ | {"password": PASSWORD}, check=True)
    return both


@pytest.fixture(scope="module")
def proxy(name: str, certificate: Path, service: Service) -> Iterator[Proxy]:
    with Proxy(name, certificate, service.port).running() as proxy:
        yield proxy


def is_problem(response: requests.Response, status: int) -> bool:
    return (
        response.status_code == status
        and response.headers["Content-Type"] == "application/problem+json"
        and response.json()["status"] == status
    )


def test_proxy_accepts_its_file(proxy: Proxy) -> None:
    checked = subprocess.run(proxy.check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr.lower()


@pytest.mark.parametrize("password", [None, "wrong"])
def test_proxy_refuses_without_credentials(proxy: Proxy, password: str | None) -> None:
    refused = proxy.post("/predict", b'{"query":"123+456"}', password)
    assert is_problem(refused, 401)
    assert refused.headers["WWW-Authenticate"].startswith("Basic")


def test_proxy_passes_a_query_on(proxy: Proxy) -> None:
    answered = proxy.post("/predict", b'{"query":"123+456"}')
    assert answered.json()["answer"] == "579"
    assert answered.headers["X-Request-ID"]


def test_client_takes_the_password_in_its_url(proxy: Proxy) -> None:
    url = proxy.url.replace("//", f"//{USER}:{PASSWORD}@")
    environment = os.environ | {"ADDER_URL": url, "REQUESTS_CA_BUNDLE": str(proxy.certificate)}
    command = [sys.executable, "-m", "service", "ask", "123+456"]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (asked.stdout, asked.stderr) == ("579\n", "")


def test_proxy_passes_the_problems_of_the_service_on(proxy: Proxy) -> None:
    refused = proxy.post("/predict", b'{"query":"123-456"}')
    assert is_problem(refused, 422)
    assert refused.json()["type"] == "/problems/invalid"


def test_proxy_passes_events_on(proxy: Proxy) -> None:
    stream = proxy.post("/predict/stream", b'{"query":"123+456"}')
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert re.findall("^event: (.*)$", stream.text, re.MULTILINE)[-1] == "done"


def test_proxy_passes_each_line_on_as_it_comes(proxy: Proxy) -> None:
    context = ssl.create_default_context(cafile=proxy.certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=30)
    connection.putrequest("POST", "/predict/batch")
    connection.putheader("Authorization", BASIC)
    connection.putheader("Content-Type", "application/x-ndjson")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    first, second = (json.dumps({"query": query}).encode() + b"\n" for query in ("1+2", "30+4"))
    connection.send(b"%x\r\n%s\r\n" % (len(first), first))
    response = connection.getresponse()
    assert json.loads(response.readline())["answer"] == "3"  # the second has not been sent yet
    connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(second), second))
    assert json.loads(response.read())["answer"] == "34"
    connection.close()


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_proxy_or_service_refuses_a_large_body(proxy: Proxy, path: str) -> None:
    assert is_problem(proxy.post(path, b'{"query":"1+2"}' + b" " * 2**20), 413)


def test_proxy_shows_readiness_and_no_metrics(proxy: Proxy) -> None:
    assert proxy.get("/health/ready").json()["status"] == "ready"
    assert is_problem(proxy.get("/metrics"), 404)


def test_proxy_has_problem_documents_of_its_own(name: str, certificate: Path) -> None:
    with Proxy(name, certificate, free_port(), ONE_REQUEST).running() as proxy:
        unreachable, *_, limited = (proxy.post("/predict", b'{"query":"1+2"}') for _ in range(3))
    assert is_problem(unreachable, {"nginx": 502, "haproxy": 503}[name])
    assert is_problem(limited, 429)
    assert limited.headers["Retry-After"] == "1"


def test_proxy_limits_fit_the_settings() -> None:
    settings, nginx, haproxy = Settings(), *((DEPLOY / file).read_text() for file in FILES.values())

    def seconds(text: str, name: str) -> list[int]:
        return [int(each) for each in re.findall(rf"\b{name} (\d+)s", text)]

    to_the_service, to_clients = seconds(nginx, "keepalive_timeout")
    assert to_the_service < settings.receive_seconds < to_clients
    assert f"client_max_body_size {settings.max_body_bytes};" in nginx
    assert seconds(nginx, "proxy_read_timeout")[0] > settings.deadline_seconds
    assert seconds(haproxy, "timeout server")[0] > settings.deadline_seconds


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze")
    unit = tmp_path / "adder.service"
    unit.write_text((DEPLOY / "adder.service").read_text().replace("/opt/neural-adder", str(ROOT)))
    for command in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=20"]):
        checked = subprocess.run(["systemd-analyze", *command, str(unit)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "adder.service:" not in checked.stderr
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert int(stop) > Settings().shutdown_seconds
