"""Code that every party may use: the wire, networks, measures, configs and files."""
