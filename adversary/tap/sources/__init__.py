"""Sources of captures: a relay and a sniffer."""
