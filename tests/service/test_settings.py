import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, ignored_variable, refused_variable, settings_or_exit, usable_cores, usable_memory

LINK = "tcp://10.0.0.1:8000"


@pytest.fixture(autouse=True)
def no_variables_of_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "field", "value"),
    [
        ({"ADDER_PORT": "9000"}, "port", 9000),
        ({"ADDER_PORT": "9000", "PORT": "9001"}, "port", 9000),
        ({"ADDER_PORT": "", "PORT": "9001"}, "port", 9001),
        ({"ADDER_PORT": LINK}, "port", 8000),
        ({"ADDER_PORT": "udp://[fd00::1]:53"}, "port", 8000),
        ({"ADDER_PORT": ""}, "port", 8000),
        ({"WEB_CONCURRENCY": "3"}, "workers", 3),
        ({"WEB_CONCURRENCY": "3", "ADDER_WORKERS": "2"}, "workers", 2),
        ({"ADDER_ARTIFACTS": ""}, "artifacts", Path("model_artifacts")),
        ({"ADDER_ACCESS_LOG": ""}, "access_log", False),
        (
            {"ADDER_CORS_ORIGINS": "HTTPS://App.example,http://[::1]:3000"},
            "cors_origins",
            "https://app.example,http://[::1]:3000",
        ),
        ({"ADDER_HOST": "[::1]"}, "bind", "[::1]:8000"),
        ({"ADDER_HOST": "::1"}, "bind", "[::1]:8000"),
    ],
)
def test_the_environment_is_read(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], field: str, value: object
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert getattr(Settings(), field) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("WORKERS", "0"),
        ("MODELS", "../elsewhere"),
        ("MODELS", "adder,"),
        ("DEADLINE_SECONDS", "nan"),
        ("DEADLINE_SECONDS", "inf"),
        ("RECEIVE_SECONDS", "inf"),
        ("CORS_ORIGINS", "https://app.example/"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://app.example,*"),
    ],
)
def test_an_invalid_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ADDER_{name}", value)
    with pytest.raises(SystemExit, match=re.escape(f"error: ADDER_{name} is '{value}': ")):
        settings_or_exit()


def test_an_invalid_value_is_named_by_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SystemExit, match="error: PORT is 'http': "):
        settings_or_exit()


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("ADDER_WORKRES", "ADDER_WORKRES is not a setting: the nearest is ADDER_WORKERS"),
        ("ADDER_MODEL", "ADDER_MODEL is not a setting: the nearest is ADDER_MODELS"),
        ("adder_log", "adder_log is not a setting: the nearest is ADDER_"),
        ("ADDER_SERVICE", "ADDER_SERVICE is not a setting: the nearest is ADDER_"),
        ("SCRIPT_NAME", "SCRIPT_NAME is '4', and the paths of the service start at the root: unset it"),
    ],
)
def test_a_variable_without_effect_is_refused(variable: str, sentence: str) -> None:
    assert (refused_variable({variable: "4"}) or "").startswith(sentence)
    assert refused_variable({variable: ""}) is None


def test_variables_of_kubernetes_and_of_the_client_are_not_refused() -> None:
    links = {
        f"ADDER_{name}": value
        for service in ("", "METRICS_")
        for name, value in {
            f"{service}SERVICE_HOST": "10.0.0.1",
            f"{service}SERVICE_PORT": "8000",
            f"{service}SERVICE_PORT_HTTP": "8000",
            f"{service}PORT": LINK,
            f"{service}PORT_8000_TCP": LINK,
            f"{service}PORT_8000_TCP_ADDR": "10.0.0.1",
            f"{service}PORT_8000_TCP_PORT": "8000",
            f"{service}PORT_8000_TCP_PROTO": "tcp",
        }.items()
    }
    settings = {f"ADDER_{name.upper()}": "x" for name in Settings.model_fields}
    assert refused_variable(settings | links | {"ADDER_URL": "http://adder", "_ADDER_COMPLETE": "x"}) is None


def test_an_ignored_port_is_explained() -> None:
    explained = ignored_variable({"ADDER_PORT": LINK})
    assert explained is not None
    assert explained.startswith(
        f"ADDER_PORT is '{LINK}', which Kubernetes sets for a Service named adder: it is ignored"
    )
    assert "the port is 8000; set enableServiceLinks to false" in explained
    assert ignored_variable({"ADDER_PORT": "8000"}) is None


def test_a_full_batch_must_fit_into_the_queue() -> None:
    with pytest.raises(ValidationError, match="a full batch could never be answered"):
        Settings(max_batch_queries=10, max_queued_queries=9)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_the_quota_of_a_container_limits_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("files", "megabytes"),
    [
        ({}, 4096),
        ({"memory.max": "max\n"}, 4096),
        ({"memory.max": "268435456\n"}, 256),
        ({"memory/memory.limit_in_bytes": "268435456\n"}, 256),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 4096),
    ],
)
def test_the_limit_of_a_container_limits_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], megabytes: int
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 4096}.__getitem__)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_memory(tmp_path) == megabytes * 2**20
