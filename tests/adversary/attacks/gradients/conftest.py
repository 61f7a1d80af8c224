"""Put this folder on the path, so that tests under pytest's importlib mode can import inversions.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
