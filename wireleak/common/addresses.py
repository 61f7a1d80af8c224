"""The names of this machine's own loopback; this module imports nothing."""

IPV4_LOOPBACK = ("localhost", "127.0.0.1")
LOOPBACK = (*IPV4_LOOPBACK, "::1")
