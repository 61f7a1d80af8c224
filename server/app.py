"""The Flower ServerApp; its config is the head's, named by `flwr run . NAME --run-config 'config="/…/config.json"'`."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.config import ServerConfig
from server.rounds import Rounds
from server.strategies import strategy
from wireleak.common.config import ConfigError, drawn, read_config

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
    # Flower's strategies sample clients with the one, and draw noise from the other.
    random.seed(seed := drawn(config.seed))
    np.random.seed(np.random.SeedSequence(seed).generate_state(8))
    order = [int(node) for node in str(context.run_config.get("nodes", "")).split(",") if node]
    joined = strategy(config.plan.strategy, config.clients)
    if config.plan.secure:
        # Imported only when needed: it imports Flower's older interfaces.
        from server.secure import SecureRounds

        SecureRounds(config, joined, grid, context, order).run()
    else:
        Rounds(config, joined, grid, order).run()
