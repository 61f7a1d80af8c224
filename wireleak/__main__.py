"""`python -m wireleak`, and the `wireleak` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; a device that has only the wire's few packages is told what the rest needs."""
    try:
        from wireleak.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"wireleak: the package {error.name} is missing; install the testbed: pip install 'wireleak[lab]'")
    app(prog_name="wireleak")


if __name__ == "__main__":
    main()
