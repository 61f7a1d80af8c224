"""Limits of the calls to the head and to the gateway."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from wireleak.common.config import Strict


class Limits(Strict):
    """Limits of the calls to the head."""

    streams: PositiveInt = Field(default=64, description="calls that the head answers at once")
    peer_streams: PositiveInt = Field(default=32, description="calls of one connection at once")
    idle: PositiveFloat | None = Field(
        default=None, description="seconds without a message after which a call is ended (default: plan.timeout)"
    )
    age: PositiveFloat | None = Field(default=None, description="seconds that a call may last (default: any)")
    memory: PositiveInt = Field(
        default=1024, description="MiB that the messages of all calls may take; large activations leave fewer calls"
    )
