"""Attack a capture that exists: from a run, a router or standard input."""
