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
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from wireleak.lab.launch.runner import POLL, Runner, RuntimeApp

# The first optimiser imports torch._dynamo, which would cost each message as much as torch itself.
_MODULES = (
    "torch",
    "torch.optim",
    "torch._dynamo",
    "flwr.supernode.runtime.run_clientapp",
    "flwr.clientapp",
    "safetensors.torch",
    "wireleak.common.models",
    "wireleak.common.wire",
)
_NODE = "from wireleak.lab.launch.runner import supernode; supernode()"


def main() -> None:
    """Start the node, and fork its apps from here, where torch has been imported once."""
    config = json.loads(Path(sys.argv[1]).read_text())
    os.environ[POLL] = str(config["poll"])
    root = config["root_certificates"]
    security = ["--root-certificates", root] if root else ["--insecure"]
    host, port = config["runtime"].split(":")
    words = ["flower-supernode", *security, "--superlink", config["superlink"], "--isolation", "process"]
    words += ["--node-config", config["node"], "--host", host, "--port", port]
    # The server counts on a node once it has registered, so torch is imported before.
    for module in _MODULES:
        importlib.import_module(module)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    home, events = Path(config["home"]), Path(config["events"])
    program = f"import sys; sys.argv = {words!r}; {_NODE}"
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"FLWR_HOME": str(home / "node")}) as node:
        app = RuntimeApp("client", config["runtime"], None, node.pid, str(home / "app"), events)
        with contextlib.suppress(KeyboardInterrupt):
            Runner(config["poll"], events, None, [app]).serve()
        node.send_signal(signal.SIGINT)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
