"""The malicious participant: its own ClientApp on an unchanged SuperNode."""
