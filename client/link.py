"""The device's link to the head, as a malicious client has it too."""

from wireleak.common.head.link import HeadError, HeadStream, check_sequence, connect, exchange, floats

__all__ = ["HeadError", "HeadStream", "check_sequence", "connect", "exchange", "floats"]
