"""The ways in which a malicious participant trains, one a file."""
