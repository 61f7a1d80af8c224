"""The part of a client's config that names the head."""

from __future__ import annotations

from pydantic import Field

from wireleak.common.config import PadConfig, SecurityConfig, Strict


class HeadConfig(Strict):
    """Address and credentials of the head."""

    address: str = Field(pattern=r"^.+:\d{1,5}$", description="the head's host:port")
    security: SecurityConfig = SecurityConfig()
    pad: PadConfig = Field(default=None, description="bytes to which messages with tensors are padded")
