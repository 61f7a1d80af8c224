"""Rounds under secure aggregation: the server sees the sum of the updates and no single update.

Flower's SecAgg+ (Bell et al. 2020, "Secure single-server aggregation with (poly)logarithmic overhead"), which it
offers only for its older kind of strategy: four messages a client and round, weights clipped, quantised and masked.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Federated rounds with Flower's SecAgg+; everything else is as in `Rounds`.

    Parameters
    ----------
    config, strategy, grid, order
        As for `Rounds`; the strategy is used only for evaluation.
    context : Context
        Of the ServerApp; the workflow keeps its state in it.

    Raises
    ------
    ConfigError
        An option that the protocol rejects, or fewer than 3 clients.
    """

    def __init__(
        self, config: ServerConfig, strategy: Strategy, grid: Grid, context: Context, order: Sequence[int] = ()
    ) -> None:
        super().__init__(config, strategy, grid, order)
        options = cast(SecureOptions, check(config.plan.strategy, config.clients))
        self._context = context
        self._workflow = SecAggPlusWorkflow(
            1.0,
            options.threshold,
            clipping_range=options.clipping_range,
            max_weight=float(options.max_weight),
            timeout=config.plan.timeout,
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
            raise RoundError(f"round {server_round}: secure aggregation did not finish; see the log")
        summed = parameters_to_ndarrays(
            arrayrecord_to_parameters(legacy.state.array_records[MAIN_PARAMS_RECORD], keep_input=False)
        )
        # The protocol identifies arrays by their order and sums them as float64.
        values = zip(arrays.items(), summed, strict=True)
        averaged = ArrayRecord({name: Array(np.asarray(new, like.dtype)) for (name, like), new in values})
        joined.results.sort(key=lambda result: self._place(result[0].node_id))
        examples = [result.num_examples for _, result in joined.results]
        losses = [float(cast(float, result.metrics["train-loss"])) for _, result in joined.results]
        nodes = sorted(cast(GridClientProxy, proxy).node_id for proxy, _ in joined.results)
        loss = float(np.average(losses, weights=examples))
        return Trained(averaged, loss, {}, nodes, {}, {})


class _Sum(FedAvg):
    """A strategy that samples all nodes and keeps the sum that the protocol returns."""

    def __init__(self, server_round: int) -> None:
        super().__init__(min_fit_clients=1, min_available_clients=1)
        self._round = server_round
        self.results: list[tuple[Any, FitRes]] = []

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> Any:
        """Configure every client for the round."""
        return [(proxy, FitIns(parameters, {"server-round": self._round})) for proxy in client_manager.all().values()]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Return the average, which every answer already holds."""
        self.results = list(results)
        return (results[0][1].parameters if results else None), {}
