"""Modules that a Flower node on an emulated Raspberry Pi needs: its system compiles them, and the node imports them."""

NODE = (
    "torch",
    "torch.optim",
    "torch._dynamo",
    "flwr.supernode.cli",
    "flwr.supernode.main",
    "flwr.supernode.runtime.run_clientapp",
    "flwr.clientapp",
    "flwr.supercore.runtime",
    "safetensors.torch",
)
