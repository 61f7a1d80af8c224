"""Start and stop processes: fork server, certificates, Flower, simulation."""
