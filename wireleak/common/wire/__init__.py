"""The wire: tensors as messages, channels and credentials. It needs only numpy, grpcio and protobuf."""

from wireleak.common.wire.channel import Security, bind, channel_options, open_channel
from wireleak.common.wire.codec import (
    DEFAULT_BOUNDS,
    VERSION,
    Bounds,
    WireError,
    decode_labels,
    decode_tensor,
    encode_tensor,
)

__all__ = [
    "DEFAULT_BOUNDS",
    "VERSION",
    "Bounds",
    "Security",
    "WireError",
    "bind",
    "channel_options",
    "decode_labels",
    "decode_tensor",
    "encode_tensor",
    "open_channel",
]
