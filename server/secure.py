"""Rounds under secure aggregation: the server sees the sum of the updates and no single update.

Flower's SecAgg+ (Bell et al. 2020, "Secure single-server aggregation with (poly)logarithmic overhead"), which it
offers only for its older kind of strategy: four messages a client and round, weights clipped, quantised and masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.common import FitIns, FitRes, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common.recorddict_compat import arrayrecord_to_parameters, parameters_to_arrayrecord
from flwr.server import LegacyContext
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy import Strategy

from server.config import ServerConfig
from server.exchange import exchange
from server.guard import usable
from server.masked import MaskedReplies
from server.rounds import RoundError, Rounds, Trained, reasons, report
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
        self._workflow = _Workflow(
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
        checks = MaskedReplies(arrays, self._workflow.modulus_range, self._most_masked)
        grid = _CheckedGrid(self._grid, checks)
        try:
            self._workflow(cast(Grid, grid), legacy)
        except Exception as error:
            # Well-formed shares may still be wrong ones, which the protocol notices when it joins them.
            raise RoundError(
                f"round {server_round}: the shares of masks do not fit together "
                f"({type(error).__name__}); {reasons(grid.dropped)}"
            ) from error
        if not joined.results:
            raise RoundError(
                f"round {server_round}: too few clients are left for secure aggregation; {reasons(grid.dropped)}"
            )
        summed = parameters_to_ndarrays(
            arrayrecord_to_parameters(legacy.state.array_records[MAIN_PARAMS_RECORD], keep_input=False)
        )
        # The protocol identifies arrays by their order and sums them as float64.
        values = zip(arrays.items(), summed, strict=True)
        averaged = ArrayRecord({name: Array(np.asarray(new, like.dtype)) for (name, like), new in values})
        if not all(np.isfinite(array.numpy()).all() for array in averaged.values()):
            raise RoundError(
                f"round {server_round}: the sum of the masked updates is not finite: a client masked wrongly"
            )
        joined.results.sort(key=lambda result: self._place(result[0].node_id))
        examples = [result.num_examples for _, result in joined.results]
        losses = [float(cast(float, result.metrics["train-loss"])) for _, result in joined.results]
        nodes = sorted(cast(GridClientProxy, proxy).node_id for proxy, _ in joined.results)
        loss = float(np.average(losses, weights=examples))
        return Trained(averaged, loss, {}, nodes, grid.dropped, {})

    def _most_masked(self, node: int) -> int:
        return min(self._most("train", node), int(self._workflow.max_weight))


class _Workflow(SecAggPlusWorkflow):
    """Flower's protocol, which also goes on without clients that were lost before they had shared their keys.

    Flower's own asks the others for shares of such a client's key, which nobody has.
    """

    def setup_stage(self, grid: Grid, context: LegacyContext, state: WorkflowState) -> bool:
        """Collect public keys."""
        return super().setup_stage(grid, context, state) and _forget_lost(state)

    def share_keys_stage(self, grid: Grid, context: LegacyContext, state: WorkflowState) -> bool:
        """Collect shares of keys."""
        return super().share_keys_stage(grid, context, state) and _forget_lost(state)


def _forget_lost(state: WorkflowState) -> bool:
    state.sampled_node_ids = set(state.active_node_ids)
    state.nid_to_neighbours = {
        node: neighbours & state.active_node_ids for node, neighbours in state.nid_to_neighbours.items()
    }
    return True


class _CheckedGrid:
    """Hands the protocol only replies that pass their checks; it goes on without the clients of the others."""

    def __init__(self, grid: Grid, checks: MaskedReplies) -> None:
        self._grid = grid
        self._checks = checks
        self.dropped: dict[int, str] = {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages, and return the usable replies."""
        messages = list(messages)
        # Copied first: a client in the same process takes items out of its message.
        asked = {
            message.metadata.dst_node_id: dict(message.content.config_records[RECORD_KEY_CONFIGS])
            for message in messages
        }
        replies = exchange(self._grid, messages, timeout or 0)
        good, dropped = usable(replies, partial(self._checks.check, asked))
        report(dropped)
        self.dropped |= dropped
        return list(good.values())


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
