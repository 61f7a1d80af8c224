"""What all tests share: one thread a process, and where the data sets are."""

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# Whoever runs the tests in the background of a script has them ignore Ctrl-C, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

# A deadline measures the machine's load, not the code.
settings.register_profile("wireleak", deadline=None)
settings.load_profile("wireleak")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data():
    """Folder of the packed data sets, or a skip that names it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    return SHARED
