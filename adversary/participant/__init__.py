"""The malicious participant: a ClientApp of its own behind an unchanged SuperNode."""
