"""Metrics, alerts and dashboard: the real Prometheus scrapes a service under load."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics
from tests.conftest import ROOT, missing
from tests.end_to_end.conftest import Service, free_port

DEPLOY = ROOT / "service" / "deploy"
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "dashboard.json").read_text())


class Prometheus:
    """A real Prometheus with the shipped files, at shorter intervals."""

    def __init__(self, folder: Path, target: str) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "alerts.yml").write_text(re.sub(r"for: \d+m", "for: 1s", (DEPLOY / "alerts.yml").read_text()))
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/api/v1/"
        command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, f"--web.listen-address={address}", "--log.level=warn"], stderr=log
            )

    def ask(self, path: str, **parameters: str) -> Any:
        return requests.get(self.url + path, params=parameters, timeout=10).json()["data"]

    def is_up(self) -> bool:
        try:
            return self.has_data("up")
        except requests.ConnectionError:
            return False

    def has_data(self, expression: str) -> bool:
        """Whether the expression gives a number."""
        return any(each["value"][1] != "NaN" for each in self.ask("query", query=expression)["result"])

    def alerts(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its label `version`."""
        alerts = self.ask("alerts")["alerts"]
        return {
            (each["labels"]["alertname"], each["labels"].get("version", ""))
            for each in alerts
            if each["state"] == "firing"
        }


def eventually(condition: Callable[[], bool], seconds: float = 40) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.3)
    return False


@pytest.fixture(scope="module")
def prometheus(two_versions: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if not shutil.which("prometheus"):
        missing("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    running = Prometheus(folder, f"127.0.0.1:{two_versions.port}")
    assert eventually(running.is_up), (folder / "log").read_text()
    yield running
    running.process.kill()
    running.process.wait()


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Send requests that are answered, refused and late, again and again."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            for version in (1, None):
                batch = {"queries": [f"{number}+{number}" for number in (2, 33, 444, 567, 891)]}
                service.post("/predict/batch", batch if version is None else batch | {"version": version})
            service.post("/predict", {"query": "1+1"})
            service.post("/predict", {"query": "1-1"})
            late = {"Request-Timeout": "1e-9"}
            requests.post(service.url + "/predict", json={"query": "1+1"}, headers=late, timeout=30)

    with ThreadPoolExecutor() as threads:
        asking = threads.submit(ask)
        try:
            yield
        finally:
            over.set()
    asking.result()


def measured(rule: dict[str, Any]) -> str:
    """The expression of an alert without its threshold."""
    return re.split(r"^(?:[<>]|==)", str(rule["expr"]), maxsplit=1, flags=re.MULTILINE)[0]


def expressions() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    dashboard = [each.replace("$model", ".*").replace("$__rate_interval", "1m") for each in targets]
    assert len(dashboard) > 20
    return dashboard + [measured(rule) for rule in RULES]


def test_every_expression_gives_data(two_versions: Service, prometheus: Prometheus) -> None:
    silent = expressions()

    def all_have() -> bool:
        silent[:] = [expression for expression in silent if not prometheus.has_data(expression)]
        return not silent

    with load(two_versions):
        assert eventually(all_have), silent


def test_wrong_answers_fire_an_alert(two_versions: Service, prometheus: Prometheus, shipped: Path) -> None:
    with load(two_versions):
        assert eventually(lambda: ("AdderWrongAnswers", "1") in prometheus.alerts()), prometheus.ask("alerts")
    assert ("AdderWrongAnswers", shipped.name) not in prometheus.alerts()
    assert ("AdderDown", "") not in prometheus.alerts()


def test_promtool_finds_nothing(two_versions: Service) -> None:
    if not shutil.which("promtool"):
        missing("promtool")
    two_versions.post("/predict", {"query": "1+1"})
    for command, read in (
        (["promtool", "check", "config", "--lint-fatal", str(DEPLOY / "prometheus.yml")], ""),
        (["promtool", "check", "metrics"], two_versions.get("/metrics").text),
    ):
        done = subprocess.run(command, input=read, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_dashboard_has_no_gap_or_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "model"]
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert not places & cells, panel["title"]
        places |= cells
    assert max(column for column, _ in places) == 23


def test_requests_are_counted_when_a_worker_is_killed(two_versions: Service) -> None:
    answered = {"route": "/predict/batch", "status": "200"}

    def counted() -> tuple[float, float]:
        return (
            two_versions.metric_value("adder_requests_total", **answered),
            two_versions.metric_value("adder_queries_total"),
        )

    def send_batches(_: int) -> tuple[int, int]:
        """Return how many requests were answered, and how many were not."""
        got = lost = 0
        with requests.Session() as session:
            while not over.is_set():
                try:
                    response = session.post(
                        two_versions.url + "/predict/batch", json={"queries": ["1+2", "3+4", "5+6"]}, timeout=30
                    )
                    got += response.status_code == 200
                except requests.RequestException:
                    lost += 1
        return got, lost

    def answer_more(count: int) -> None:
        goal = counted()[0] + count
        two_versions.until(lambda: counted()[0] >= goal)

    before, over, workers = counted(), threading.Event(), two_versions.workers()
    with ThreadPoolExecutor(8) as threads:
        sending = threads.map(send_batches, range(8))
        try:
            answer_more(100)
            os.kill(workers[-1], signal.SIGKILL)
            two_versions.until(lambda: len(two_versions.workers()) == len(workers) + 1)
            two_versions.until(lambda: two_versions.metric_value("adder_workers_ready") == 2)
            answer_more(100)
        finally:
            over.set()
        got, lost = map(sum, zip(*sending, strict=True))
    assert got > 100
    requests_counted, queries_counted = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    # The killed worker may have counted answers that it could no longer send.
    assert got <= requests_counted <= got + lost
    assert 3 * got <= queries_counted <= 3 * (got + lost)


def test_the_dashboard_or_an_alert_shows_every_metric() -> None:
    shown = json.dumps(DASHBOARD) + (DEPLOY / "alerts.yml").read_text()
    families = text_string_to_metric_families(Metrics().exposition("")[0].decode())
    assert not [family.name for family in families if family.name not in shown]
