"""Fuzzing of the reader of captures: mutated conversations and files, none of which may end the reading."""
