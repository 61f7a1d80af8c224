"""The cost of a cut for the device: operations, parameters and bytes to send."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wireleak.common.models import Network


@dataclass(frozen=True)
class Cost:
    """The device's cost for one inference.

    Parameters
    ----------
    floats : int
        Numbers in the activation that is sent.
    bytes : int
        Its size as float32, without framing.
    flops : int
        Floating-point operations of matrix products, convolutions and attention, a multiply-add counting as two.
    parameters : int
        Weights that the device stores.
    """

    floats: int
    bytes: int
    flops: int
    parameters: int


def device_costs(network: Network) -> dict[int, Cost]:
    """Measure the cost of the blocks before each cut for one input, in one pass through the network."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    modes = {module: module.training for module in network.blocks.modules()}
    network.blocks.eval()
    costs: dict[int, Cost] = {}
    value, flops = torch.zeros(1, *network.input_shape), 0
    stored: dict[int, int] = {}
    for cut, block in zip(network.cuts, network.blocks, strict=False):
        with FlopCounterMode(display=False) as counter, _no_fused_kernels():
            value = block(value).detach()
        flops += counter.get_total_flops()
        # A parameter that several blocks share is stored once.
        stored |= {id(parameter): parameter.numel() for parameter in block.parameters()}
        floats = math.prod(value.shape[1:])
        costs[cut] = Cost(floats, 4 * floats, flops, sum(stored.values()))
    for module, mode in modes.items():
        module.training = mode
    return costs


@contextmanager
def _no_fused_kernels() -> Iterator[None]:
    """Disable fused kernels of LSTMs and transformers, because the counter does not see their operations."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # A transformer uses its fused layer only without gradients.
    with warnings.catch_warnings(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore", UserWarning)  # about TF32, which CPUs lack
        with torch.backends.mkldnn.flags(enabled=False):
            yield
