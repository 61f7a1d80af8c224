"""Sources: a relay and a sniffer that record links."""
