"""A Flower app that adds one to a vector, and says what it could read and reach."""

from pathlib import Path

PROJECT = """
[project]
name = "tiny"
version = "1.0.0"
description = "adds one to a vector"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "tiny.server:app"
clientapp = "tiny.client:app"
[tool.flwr.app.config]
out = ""
rounds = 1
timeout = 60
fail = false
"""
CLIENT = """
import json, os, pathlib, socket, subprocess, time
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    folder = pathlib.Path(str(context.node_config["folder"]))
    if peek := context.node_config.get("peek"):
        tried = {}
        for path in [peek, folder / "own"]:
            try:
                tried[str(path)] = pathlib.Path(path).read_text()
            except OSError as error:
                tried[str(path)] = error.errno
        try:
            socket.create_connection(("127.0.0.1", int(context.node_config["port"])), timeout=5).close()
        except OSError as error:
            tried["link"] = error.errno
        (folder / "tried").write_text(json.dumps(tried))
    if context.node_config.get("hang"):
        child = subprocess.Popen(["sleep", "300"])
        (folder / "hanging").write_text(f"{os.getpid()} {child.pid} ")
        time.sleep(300)
    with (folder / "pids").open("a") as file:
        print(context.run_id, context.node_id, os.getpid(), file=file)
    if context.node_config.get("stumble") and not (folder / "stumbled").exists():
        (folder / "stumbled").touch()
        raise RuntimeError("stumbled")
    values = [value + 1 for value in message.content["arrays"].to_numpy_ndarrays()]
    content = {"arrays": ArrayRecord(values), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)
"""
SERVER = """
import json, pathlib
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
app = ServerApp()

@app.main()
def main(grid, context):
    config = context.run_config
    if config["fail"]:
        raise RuntimeError("asked to fail")
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
    start = ArrayRecord([np.zeros(3, np.float32)])
    result = strategy.start(grid, start, num_rounds=config["rounds"], timeout=config["timeout"])
    values = result.arrays.to_numpy_ndarrays()[0].tolist()
    pathlib.Path(config["out"]).write_text(json.dumps(values))
"""


def write_tiny(folder: Path, client: str = CLIENT) -> Path:
    """Write the app, with this client, into a folder, and return the folder."""
    (folder / "tiny").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    for name, code in (("__init__", ""), ("client", client), ("server", SERVER)):
        (folder / "tiny" / f"{name}.py").write_text(code)
    return folder
