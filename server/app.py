"""The Flower ServerApp; its config is the head's, named by `flwr run . NAME --run-config 'config="/…/config.json"'`."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from server.config import ServerConfig
from server.rounds import Rounds
from wireleak.config import ConfigError, read_config

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that the config asks for."""
    torch.set_num_threads(1)
    named = str(context.run_config.get("config", ""))
    if not named:
        raise ConfigError(
            """config: name the server's config: flwr run . NAME --run-config 'config="/…/config.json"'"""
        )
    config = read_config(Path(named), ServerConfig)
    random.seed(config.seed)  # the strategy samples clients with it
    # Who is there takes part: the rounds themselves wait for the first `clients`, and go on after a loss.
    strategy = FedAvg(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
    Rounds(config, strategy, grid).run()
