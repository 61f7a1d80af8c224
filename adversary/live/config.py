"""Config of the live eavesdropper, checked whole before anything starts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wireleak.common.config import AbsolutePath, Strict


class LiveConfig(Strict):
    """Config of `python -m adversary live`."""

    capture: AbsolutePath = Field(description="pcap file to follow; it may not exist yet")
    device: list[AbsolutePath] = Field(min_length=1, description="captures of the attacker's own device")
    surrogate: AbsolutePath = Field(description="the inputs that this device sent, .npz")
    attack: str = Field(default="inversion", description="name of an attack that rebuilds inputs from activations")
    options: dict[str, Any] = Field(default_factory=dict, description="the attack's own options")
    seed: int = Field(default=0, ge=0, description="seed of the process's random draws")
    address: str = Field(
        default="127.0.0.1:0",
        pattern=r"^.+:\d{1,5}$",
        description="host:port on which it publishes pictures; port 0 takes a free one",
    )
    ready: AbsolutePath = Field(description="JSON file that it writes once it listens, with its address")
    origins: list[str] = Field(
        default_factory=list, description='origins of pages that may read the pictures, e.g. "http://localhost:8787"'
    )
