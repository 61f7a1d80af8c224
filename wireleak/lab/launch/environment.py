"""The environment variables of every process that the lab starts."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping

from wireleak.common.wire.channel import LOOPBACK
from wireleak.lab.launch.imports import safe_environment

# One thread per process: a study runs many processes on few cores, and a fork must come before any thread starts.
_OWN = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the lab's own variables, those that every process needs, and `extra`."""
    # Flower starts its commands by name, so they must be on the path even if the virtual environment is not active.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **_OWN, **_direct_loopback(), **safe_environment(), "PATH": path, **extra}


def _direct_loopback() -> dict[str, str]:
    """Return variables with which gRPC and HTTP clients reach loopback without the proxy that the environment names."""
    own = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    names = {"no_proxy": own, "NO_PROXY": own}
    if (only := os.environ.get("no_grpc_proxy")) is not None:  # noqa: SIM112
        names["no_grpc_proxy"] = only  # gRPC then ignores the others
    return {name: ",".join([*filter(None, [value]), *LOOPBACK]) for name, value in names.items()}
