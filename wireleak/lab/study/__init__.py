"""A study: the schema of its TOML file, sweeps, rules, and the library of studies."""
