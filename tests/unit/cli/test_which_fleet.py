"""Which fleet a command is about, and what happens when it does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from roadstead.api.answers import ModelList
from roadstead.cli.failures import CommandError
from roadstead.cli.main import app
from roadstead.cli.options import Chosen
from roadstead.cli.read_api import Direct, Proxied, ReadApi
from roadstead.cli.which_fleet import FleetOfModels, fleet_of_models
from roadstead.embedded.home import Home
from tests.fixtures.free_ports import free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a fleet that does not run."""
    monkeypatch.setenv("ROADSTEAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROADSTEAD_RUNTIME", str(tmp_path / "run"))
    for name in ("ROADSTEAD_API", "ROADSTEAD_API_TOKEN_FILE", "ROADSTEAD_NAMESPACE", "ROADSTEAD_RELEASE"):
        monkeypatch.delenv(name, raising=False)
    home = Home.of(tmp_path / "home")
    home.create()
    home.ports_file.write_text(json.dumps({"operator-api": free_port()}))
    home.api_token_file.write_text("token\n")
    return home


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster that does not answer."""
    path = tmp_path / "kubeconfig"
    cluster = {"name": "k", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}
    contexts = [
        {"name": "one", "context": {"cluster": "k", "user": "u", "namespace": "team"}},
        {"name": "two", "context": {"cluster": "k", "user": "u"}},
    ]
    users = [{"name": "u", "user": {"token": "t"}}]
    path.write_text(
        yaml.safe_dump({"current-context": "one", "contexts": contexts, "clusters": [cluster], "users": users})
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def way(fleet: FleetOfModels) -> object:
    return fleet.api._way


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_fleet_of_this_folder_is_asked_where_its_ports_say(home: Home) -> None:
    port = json.loads(home.ports_file.read_text())["operator-api"]
    fleet = fleet_of_models(Chosen())
    assert way(fleet) == Direct(f"http://127.0.0.1:{port}", home.api_token_file)
    assert (fleet.namespace, fleet.home) == ("default", home)


def test_the_environment_comes_before_the_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADSTEAD_API", "http://127.0.0.1:1")
    monkeypatch.setenv("ROADSTEAD_API_TOKEN_FILE", "/elsewhere/token")
    assert way(fleet_of_models(Chosen())) == Direct("http://127.0.0.1:1", Path("/elsewhere/token"))


@pytest.mark.usefixtures("home", "kubeconfig")
@pytest.mark.parametrize(
    ("chosen", "namespace", "release", "current"),
    [
        (Chosen(namespace="llm"), "llm", "roadstead", "team"),
        (Chosen(release="second"), "roadstead", "second", "team"),
        (Chosen(context="two"), "roadstead", "roadstead", "default"),
    ],
)
def test_an_option_about_a_cluster_means_the_cluster(
    chosen: Chosen, namespace: str, release: str, current: str
) -> None:
    fleet = fleet_of_models(chosen)
    found = way(fleet)
    assert isinstance(found, Proxied)
    assert (found.namespace, found.release, found.token_file) == (namespace, release, None)
    assert (fleet.namespace, fleet.home) == (current, None)


def test_where_no_fleet_was_ever_started_the_cluster_is_meant(
    home: Home, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.ports_file.unlink()
    monkeypatch.setenv("ROADSTEAD_NAMESPACE", "llm")
    monkeypatch.setenv("ROADSTEAD_RELEASE", "second")
    found = way(fleet_of_models(Chosen()))
    assert isinstance(found, Proxied)
    assert (found.namespace, found.release) == ("llm", "second")


class Known:
    """A read API that knows these models."""

    def __init__(self, *models: tuple[str, str]) -> None:
        self.models = models

    def ask(self, _path: str, _shape: type[ModelList]) -> ModelList:
        row = {
            "servedName": None, "status": "Ready", "wanted": 1, "ready": 1, "release": 1, "variants": (), "nodes": (),
            "message": "",
        }  # fmt: skip
        rows = [{"namespace": namespace, "name": name, **row} for namespace, name in self.models]
        return ModelList.model_validate(
            {"leading": True, "plannedAt": "2026-11-24T12:00:00Z", "ageSeconds": 0, "items": rows}
        )


def fleet_with(*models: tuple[str, str]) -> FleetOfModels:
    api = Known(*models)
    return FleetOfModels(api=api, namespace="team", home=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("a", ("team", "a")),
        ("b", ("other", "b")),
        ("other/a", ("other", "a")),
        ("nobody", ("team", "nobody")),
        ("third/nobody", ("third", "nobody")),
    ],
)
def test_a_name_is_looked_for_here_and_then_where_it_is_the_only_one(model: str, found: tuple[str, str]) -> None:
    assert fleet_with(("team", "a"), ("other", "a"), ("other", "b")).find(model) == found


def test_a_name_that_several_have_elsewhere_is_asked_back() -> None:
    with pytest.raises(CommandError) as error:
        fleet_with(("x", "a"), ("y", "a")).find("a")
    assert (error.value.code, error.value.remedy) == ("ModelAmbiguous", "Say which: x/a, y/a.")


def test_a_fleet_that_is_down_still_shows_the_files_of_its_engines(home: Home) -> None:
    logs = home.data / "store-node-a/logs"
    logs.mkdir(parents=True)
    (logs / "default.smollm2.3f9a1c20.node-a.0.log").write_text("out of memory\n")
    shown = run("logs", "smollm2")
    assert (shown.exit_code, shown.stdout) == (0, "out of memory\n")
    assert shown.stderr.startswith("The operator's read API at http://127.0.0.1:")
    assert "does not answer. What its files hold:" in shown.stderr
    assert run("logs", "nobody").stderr.splitlines()[1].startswith("NoSuchLog: Nothing named nobody has a log here.")


def test_a_process_of_the_fleet_is_shown_from_its_file(home: Home) -> None:
    home.log("operator").write_text("1\n2\n")
    shown = run("logs", "operator", "-n", "1")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("command", [("models",), ("nodes",), ("plan",), ("plan", "smollm2")])
def test_a_fleet_that_does_not_answer_is_said_with_the_remedy(command: tuple[str, ...], home: Home) -> None:
    refused = run(*command)
    assert refused.exit_code == 1
    code, remedy = refused.stderr.splitlines()
    assert code.startswith("ReadApiUnreachable: The operator's read API at http://127.0.0.1:")
    assert remedy == "See `roadstead status`; `roadstead up` starts what is missing."


def test_a_token_that_cannot_be_read_and_a_cluster_that_does_not_answer_are_said(
    home: Home, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.api_token_file.unlink()
    assert run("models").stderr.startswith("TokenUnusable: The token file ")
    monkeypatch.setenv("ROADSTEAD_API", "http://127.0.0.1:1")
    assert run("models").stderr.startswith("TokenUnusable: ROADSTEAD_API is set, but not ROADSTEAD_API_TOKEN_FILE.")
    away = run("nodes", "--in", "roadstead")
    assert away.stderr.startswith("ApiServerUnreachable: The API server of http://127.0.0.1:")


def test_an_answer_of_something_else_is_not_mistaken_for_the_fleet(home: Home) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        api = ReadApi(Direct(f"http://127.0.0.1:{server.server_port}", home.api_token_file))
        with pytest.raises(CommandError) as error:
            api.ask("/v1/models", ModelList)
        assert error.value.code == "AnswerNotUnderstood"
    finally:
        server.shutdown()


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'kubernetes', 'urllib3', 'pydantic', 'fastapi', 'aiohttp', 'ray', 'cryptography'}"
    script = f"import sys, roadstead.cli.main as main\nprint({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert loaded.stdout.strip() == "set()"


def test_every_command_explains_itself() -> None:
    for command in ("models", "nodes", "plan", "explain", "fit", "what-if", "logs", "orphan", "up", "down", "status"):
        told = run(command, "--help")
        assert told.exit_code == 0
        assert "None" not in told.output
