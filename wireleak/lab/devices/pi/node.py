"""A SuperNode and the runner of its ClientApp as one command, for an emulated Pi.

`python -m wireleak.lab.devices.pi.node CONFIG` with a JSON file: `superlink` (host:port), `runtime` (the node's own
host:port), `node` (the node's config, as Flower spells it), `root_certificates` (a path, or null), `poll` (seconds),
`home` (a folder for Flower) and `events` (a path, to which the app's output goes too).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from wireleak.lab.devices.pi.modules import NODE
from wireleak.lab.launch.flower import POLL
from wireleak.lab.launch.runner import Runner, RuntimeApp
from wireleak.lab.launch.zygote import become_child, end_child, fork, run_command

# Node and apps are forks that share these: on an emulated CPU each import takes half a minute. The first optimiser
# imports torch._dynamo.
_MODULES = (*NODE, "wireleak.common.models", "wireleak.common.wire")


def main() -> None:
    """Import once, then fork the node and, for each of its messages, the app."""
    config = json.loads(Path(sys.argv[1]).read_text())
    os.environ[POLL] = str(config["poll"])
    home, events = Path(config["home"]), Path(config["events"])
    # The server counts on a node once it has registered, so everything is imported before.
    for module in _MODULES:
        importlib.import_module(module)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    node = fork()
    if node == 0:
        _be_node(config, home / "node")
    app = RuntimeApp("client", config["runtime"], None, node, str(home / "app"), events)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGCHLD, lambda *_: _end_with(node))
    with contextlib.suppress(KeyboardInterrupt):
        Runner(config["poll"], events, None, [app]).serve()


def _be_node(config: dict[str, str | None], home: Path) -> NoReturn:
    status = 1
    try:
        become_child()
        os.environ["FLWR_HOME"] = str(home)
        root = config["root_certificates"]
        host, port = str(config["runtime"]).split(":")
        words = ["--root-certificates", root] if root else ["--insecure"]
        words += ["--superlink", str(config["superlink"]), "--isolation", "process"]
        words += ["--node-config", str(config["node"]), "--host", host, "--port", port]
        status = run_command(["wireleak.lab.launch.flower:supernode", *words])
    finally:
        end_child(status)


def _end_with(node: int) -> None:
    if os.waitid(os.P_PID, node, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        raise SystemExit("the SuperNode ended")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
