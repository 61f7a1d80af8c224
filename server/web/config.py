"""Config of the gateway: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from wireleak.common.config import AbsolutePath, Limits, SecurityConfig, Strict
from wireleak.common.wire.channel import IPV4_LOOPBACK, MAX_MESSAGE_BYTES


class Cut(Strict):
    """A cut of the network that is served too, for the page's choice."""

    port: int = Field(ge=1, le=65_535, description="port of its page, on the same hosts")
    block: int = Field(ge=1, description="number of the block after which the device sends")
    numbers: int = Field(ge=1, description="numbers in one example's activation")


class GatewayConfig(Strict):
    """Config of the gateway between browsers and the head."""

    head: str = Field(pattern=r"^.+:\d{1,5}$", description="the head's host:port")
    security: SecurityConfig = SecurityConfig()
    address: str = Field(
        default="127.0.0.1:0",
        pattern=r"^.+:\d{1,5}$",
        description="host:port that the gateway listens on; port 0 takes a free one",
    )
    limits: Limits = Limits()
    largest: PositiveInt = Field(default=MAX_MESSAGE_BYTES, description="bytes of the largest message")
    ready: AbsolutePath = Field(description="JSON file that the gateway writes once it serves, with its address")
    pages: AbsolutePath = Field(description="folder of the built page, with index.html")
    encoder: AbsolutePath = Field(description="folder of the exported encoder: encoder.onnx and manifest.json")
    hosts: list[str] = Field(
        default=list(IPV4_LOOPBACK), min_length=1, description="host names under which a browser opens the page"
    )
    eavesdropper: int | None = Field(
        default=None, ge=1, le=65_535, description="port of the live eavesdropper, on the same hosts"
    )
    cuts: list[Cut] = Field(default_factory=list, description="all cuts that are served, this one among them")
    title: str = Field(default="", description="the model's name for people, shown on the page")
