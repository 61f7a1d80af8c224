"""Numbers that results hold: their names, and how they are read and written."""
