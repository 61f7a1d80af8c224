"""`wireleak serve`: each mistake is one line, and the page's parts are those that the build made."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from server.web.config import GatewayConfig
from wireleak.cli import app
from wireleak.common.config import Limits
from wireleak.lab.launch.jail import Jail
from wireleak.lab.serve import session
from wireleak.lab.serve.session import Session, Wanted
from wireleak.lab.serve.source import STUDY, small_variants
from wireleak.lab.study.library import load_study

ROOT = Path(__file__).parents[4]


def wanted(host: str = "127.0.0.1", port: int = 8787) -> Wanted:
    return Wanted(None, ("wide", "narrow"), None, True, host, port, Path("runs"))


def refused(*argv: str) -> str:
    done = CliRunner().invoke(app, ["serve", *argv])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.output
    return done.stderr.removeprefix("wireleak: ").strip()


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("")
    monkeypatch.setattr(session, "PAGES", tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def test_a_page_that_is_not_built_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PAGES", tmp_path)
    assert "run `make web`" in refused("--web")


def test_a_port_in_use_is_named_before_anything_starts(built: None, taken: int, tmp_path: Path) -> None:
    line = refused("--web", "--port", str(taken), "--out", str(tmp_path))
    assert line == f"--port: cannot listen on 127.0.0.1:{taken}: Address already in use; choose another --port"
    # The eavesdropper's port is the next one.
    assert f"127.0.0.1:{taken}:" in refused("--web", "--port", str(taken - 1), "--out", str(tmp_path))
    assert not list(tmp_path.glob("serve-*"))


def test_a_folder_without_a_run_is_named(built: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        free = held.getsockname()[1]
    line = refused(str(tmp_path), "--web", "--port", str(free), "--out", str(tmp_path))
    assert line.startswith(f"RUN: {tmp_path} holds no study.toml")


def test_a_browser_may_use_only_this_machines_names() -> None:
    assert wanted().hosts == wanted("localhost").hosts == ["localhost", "127.0.0.1"]
    assert wanted("192.168.1.5").hosts == ["localhost", "127.0.0.1", "192.168.1.5"]
    everywhere = wanted("0.0.0.0").hosts
    assert everywhere[:3] == ["localhost", "127.0.0.1", socket.gethostname()] and "0.0.0.0" not in everywhere


def test_the_small_study_can_run() -> None:
    study, _ = load_study(str(STUDY))
    assert small_variants() == ("wide", "narrow") and study.seeds == (0,)
    assert wanted().ports == (8787, 8788, 8789, 8790)


def test_every_file_that_the_page_loads_is_built() -> None:
    source = ROOT / "client" / "web"
    build = (source / "build.mjs").read_text()
    for name in (
        "index.html",
        "style.css",
        "sw.js",
        "manifest.webmanifest",
        "icon.svg",
        "icon-192.png",
        "icon-512.png",
    ):
        assert (source / "src" / name).is_file() and f'"{name}"' in build
    page = (source / "src" / "index.html").read_text()
    # The Content-Security-Policy forbids what stands in the page itself.
    assert "<style" not in page and " style=" not in page and " onclick=" not in page
    assert page.count("<script") == 1 and "http" not in page


class JailsOnly:
    """Stands in for a launcher: it keeps the jails, and every process is ready at once."""

    def __init__(self) -> None:
        self.jails: dict[str, Jail] = {}

    def start(self, name: str, argv: list[str], log: Path, *, lasting: bool, jail: Jail) -> str:
        self.jails[name] = jail
        return name

    def wait_ready(self, process: str, ready: Path) -> dict[str, Any]:
        port = 5000 + len(self.jails)
        return {"address": f"127.0.0.1:{port}", "links": {"web": f"127.0.0.1:{port}"}}


def test_every_process_that_serves_has_a_jail(tmp_path: Path) -> None:
    run = tmp_path / "run"
    cell = SimpleNamespace(
        config=lambda party: run / "wide-seed0" / party / "config.json",
        capture=lambda link: run / "wide-seed0" / "tap" / f"{link}.pcap",
        checkpoints=run / "wide-seed0" / "server" / "checkpoints",
        surrogate=run / "granted" / "surrogate.npz",
        seed=0,
    )
    (trained := cell.config("server")).parent.mkdir(parents=True)
    trained.write_text(json.dumps({"checkpoints": "/elsewhere", "history": "/elsewhere"}))
    encoder = SimpleNamespace(folder=tmp_path / "serve" / "wide" / "encoder", activation_shape=(16, 14, 14))
    source = SimpleNamespace(encoder=encoder, cell=cell, variant=SimpleNamespace(name="wide"), title="")
    launcher = JailsOnly()
    Session(wanted(), cast(Any, source), 8787, [], cast(Any, launcher))
    jails = {name.removeprefix("wide-"): jail for name, jail in launcher.jails.items()}
    assert set(jails) == {"head", "gateway", "tap", "eavesdropper"}
    own = tmp_path / "serve" / "wide"
    assert {name: jail.write for name, jail in jails.items()} == {
        "head": (own / "server",),
        "gateway": (own / "gateway",),
        "tap": (own / "tap",),
        "eavesdropper": (own / "adversary",),
    }
    assert {name: jail.connect for name, jail in jails.items()} == {
        "head": (),
        "gateway": (5001,),
        "tap": (5002,),
        "eavesdropper": (),
    }
    head, gateway = (json.loads((own / party / "config.json").read_text()) for party in ("server", "gateway"))
    assert head["limits"] == {"streams": 64, "peer_streams": 64, "idle": 60.0, "age": 3600.0}
    assert GatewayConfig.model_validate(gateway).limits == Limits(**gateway["limits"])
    assert gateway["largest"] == 4 * 256 * 16 * 14 * 14 + (1 << 20)
    assert 8787 in jails["tap"].listen and 8788 in jails["eavesdropper"].listen
    assert not any(path.is_relative_to(own / "server") for path in jails["eavesdropper"].read)
