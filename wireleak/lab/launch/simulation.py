"""A federation of many virtual clients on Flower's Simulation Engine: one process tree, without links to tap.

`python -m wireleak.lab.launch.simulation --config F` runs the same ServerApp and ClientApp as a deployment does, with
their own configs. Config: `{"server": path, "clients": [{"app": "module:name", "config": path}, …], "nodes": path,
"usage": path}`; client i is the virtual node with partition i, and its app is wireleak's own. Afterwards, `nodes` maps
clients to Flower's nodes, and `usage` holds the seconds and the peak memory of the process and all its children. It
needs the extra `wireleak[simulation]`, which installs Ray.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, cast

import psutil
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from wireleak.common.files import named_config, write_json

_SAMPLE_SECONDS = 0.5
_POLL_SECONDS = 0.1


class VirtualClient(ClientApp):
    """Wireleak's ClientApp, which selects its client's config by partition.

    Parameters
    ----------
    configs : list of str
        Paths of the clients' configs, by partition.
    nodes : str
        Folder in which each client writes its node's id.
    """

    def __init__(self, configs: list[str], nodes: str) -> None:
        super().__init__()
        self._configs = configs
        self._nodes = nodes

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message as the client of this partition; a query asks for its number."""
        number = int(str(context.node_config["partition-id"]))
        if message.metadata.message_type == MessageType.QUERY:
            return Message(RecordDict({"place": MetricRecord({"partition": number})}), reply_to=message)
        context.node_config["config"] = self._configs[number]
        (Path(self._nodes) / str(context.node_id)).write_text(Path(self._configs[number]).parent.name)
        answer: Message = pkgutil.resolve_name("client.app:app")(message, context)
        return answer


def simulate(server: str, clients: list[str], nodes: Path) -> None:
    """Run the ServerApp of a config with one virtual client for each client config."""
    from flwr.simulation import run_simulation

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        context.run_config["config"] = server
        context.run_config["nodes"] = ",".join(map(str, _in_order(grid, len(clients))))
        pkgutil.resolve_name("server.app:app")(grid, context)

    named = nodes.with_suffix(".d")
    named.mkdir(parents=True, exist_ok=True)
    # One thread per actor, because clients are many and small. A cluster that this machine is in has other work.
    own = {"address": "local", "num_cpus": os.cpu_count() or 1, "include_dashboard": False}
    backend: dict[str, Any] = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": own | {"logging_level": "warning"},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the command that replaces it needs a bundle
        run_simulation(app, VirtualClient(clients, str(named)), len(clients), backend_config=backend)
    write_json(nodes, {path.name: path.read_text() for path in named.iterdir()})


def _in_order(grid: Grid, count: int) -> list[int]:
    """Return the virtual nodes by their partition: Flower draws their ids."""
    while len(nodes := list(grid.get_node_ids())) < count:
        time.sleep(_POLL_SECONDS)
    asked = set(grid.push_messages([Message(RecordDict({}), node, MessageType.QUERY) for node in nodes]))
    places: dict[int, int] = {}
    while len(places) < count:
        # Flower forgets an answer once it was pulled, and asked for it again it answers with an error.
        for answer in grid.pull_messages(list(asked)):
            asked.discard(answer.metadata.reply_to_message_id)
            if answer.has_error():
                raise RuntimeError(f"a virtual client failed before training: {answer.error.reason}")
            place = answer.content.metric_records["place"]["partition"]
            places[answer.metadata.src_node_id] = int(cast(int, place))
        time.sleep(_POLL_SECONDS)
    return sorted(places, key=places.__getitem__)


class Usage:
    """Seconds, and the peak proportional memory (PSS) of this process and its children."""

    def __init__(self) -> None:
        self.peak = 0
        self._began = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def report(self) -> dict[str, float]:
        """Return "seconds" since the start and "peak_bytes"."""
        return {"seconds": time.monotonic() - self._began, "peak_bytes": self.peak}

    def _watch(self) -> None:
        own = psutil.Process()
        while True:
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(_SAMPLE_SECONDS)


def main() -> None:
    """Simulate the config named by `--config`."""
    if importlib.util.find_spec("ray") is None:
        print(
            "engine: the Simulation Engine needs Ray; run pip install 'wireleak[simulation]' (in a checkout, "
            "make simulation)",
            file=sys.stderr,
        )
        raise SystemExit(2)
    config = named_config()
    usage = Usage()
    # Ray's workers must have the same import path as this process.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    simulate(config["server"], [client["config"] for client in config["clients"]], Path(config["nodes"]))
    write_json(Path(config["usage"]), usage.report())


if __name__ == "__main__":
    main()
