"""The examples of docs/how-to/devices.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from client.device.__main__ import parser
from server.config import ServerConfig

PAGE = Path(__file__).resolve().parents[4] / "docs" / "how-to" / "devices.md"


def test_the_head_s_config_can_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/digits-latest/wide-seed0/server")
    run.mkdir(parents=True)
    model: dict[str, Any] = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 2, "cut": 1}
    paths = {"ready": "/r", "checkpoints": "/c", "history": "/h"}
    (run / "config.json").write_text(json.dumps({"model": model, "plan": {"rounds": 1}, "clients": 1} | paths))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    config = ServerConfig.model_validate_json(Path("head.json").read_bytes())
    assert config.address == "0.0.0.0:9443"
    assert config.security.encrypted
    assert config.security.ca == tmp_path / "certificates" / "ca.pem"


def test_the_device_s_commands_parse() -> None:
    commands = re.findall(r"wireleak-device (.*)", PAGE.read_text())
    parsed = [parser().parse_args(command.split()) for command in commands if command.startswith("encoder")]
    assert len(parsed) >= 4
    assert any(chosen.benchmark for chosen in parsed)
    assert any(chosen.certificate == Path("pi.pem") for chosen in parsed)
