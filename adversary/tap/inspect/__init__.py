"""What captures hold, counted and exported."""
