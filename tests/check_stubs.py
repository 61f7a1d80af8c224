"""Fail when the generated stubs in wireleak/common/wire differ from what proto/ gives (`make proto` mends it)."""

import os
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Generate into a scratch folder and compare."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as scratch:
        status = protoc.main(
            [
                "protoc",
                f"-Iwireleak/common/wire={ROOT}/proto/wireleak/v1",
                *(f"--{kind}_out={scratch}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
                "wireleak/common/wire/split_head.proto",
            ]
        )
        if status:
            return int(status)
        fresh = {path.name: path.read_bytes() for path in Path(scratch, "wireleak/common/wire").iterdir()}
    stale = [name for name, text in fresh.items() if (ROOT / "wireleak/common/wire" / name).read_bytes() != text]
    if stale:
        print(f"stale stubs: {', '.join(sorted(stale))}; run make proto", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
