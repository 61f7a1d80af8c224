"""The malicious server: it replaces the head and trains the clients' encoders for the attacker."""
