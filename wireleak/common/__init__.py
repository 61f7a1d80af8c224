"""What every party may know: the wire, networks, measures, configs and files."""
