"""Rounds under secure aggregation: the server learns the sum of the updates and no single one.

Flower's SecAgg+ (Bell et al. 2020, "Secure single-server aggregation with (poly)logarithmic overhead"), which it has
for its older kind of strategy alone: four messages a client and round, weights clipped, quantised and masked.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.common import FitIns, FitRes, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import arrayrecord_to_parameters, parameters_to_arrayrecord
from flwr.server import LegacyContext
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy import Strategy

from server.config import ServerConfig
from server.rounds import RoundError, Rounds, Trained
from server.strategies import SecureOptions, check


class SecureRounds(Rounds):
    """Federated rounds in which Flower's SecAgg+ joins the updates; all else as in `Rounds`.

    Parameters
    ----------
    config, strategy, grid
        As for `Rounds`; the strategy is left with the evaluation.
    context : Context
        Of the ServerApp, which the workflow keeps its state in.

    Raises
    ------
    ConfigError
        Options that the protocol does not take, or too few clients to hide among.
    """

    def __init__(self, config: ServerConfig, strategy: Strategy, grid: Grid, context: Context) -> None:
        super().__init__(config, strategy, grid)
        options = cast(SecureOptions, check(config.strategy, config.clients))
        self._context = context
        self._workflow = SecAggPlusWorkflow(
            1.0,
            options.threshold,
            clipping_range=options.clipping_range,
            max_weight=float(options.max_weight),
            timeout=config.timeout,
        )

    def _train(self, server_round: int, arrays: ArrayRecord) -> Trained:
        joined = _Sum(server_round)
        legacy = LegacyContext(self._context, strategy=joined, client_manager=SimpleClientManager())
        for node in self._grid.get_node_ids():
            legacy.client_manager.register(GridClientProxy(node, self._grid, self._context.run_id))
        legacy.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(
            ndarrays_to_parameters(arrays.to_numpy_ndarrays()), keep_input=False
        )
        legacy.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: server_round})
        self._workflow(self._grid, legacy)
        if not joined.results:
            raise RoundError(f"round {server_round}: secure aggregation did not come to its end; see the log")
        summed = parameters_to_ndarrays(
            arrayrecord_to_parameters(legacy.state.array_records[MAIN_PARAMS_RECORD], keep_input=False)
        )
        # The protocol knows arrays by their order, and adds them up as float64.
        values = zip(arrays.items(), summed, strict=True)
        averaged = ArrayRecord({name: Array(np.asarray(new, like.dtype)) for (name, like), new in values})
        examples = [result.num_examples for _, result in joined.results]
        losses = [float(cast(float, result.metrics["train-loss"])) for _, result in joined.results]
        nodes = sorted(cast(GridClientProxy, proxy).node_id for proxy, _ in joined.results)
        loss = float(np.average(losses, weights=examples))
        return Trained(averaged, loss, {}, nodes, {}, {})


class _Sum(FedAvg):
    """Asks all nodes, and keeps what the protocol made of their answers."""

    def __init__(self, server_round: int) -> None:
        super().__init__(min_fit_clients=1, min_available_clients=1)
        self._round = server_round
        self.results: list[tuple[Any, FitRes]] = []

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> Any:
        """Tell every client the round."""
        return [(proxy, FitIns(parameters, {"server-round": self._round})) for proxy in client_manager.all().values()]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Every answer already holds the average."""
        self.results = list(results)
        return (results[0][1].parameters if results else None), {}
