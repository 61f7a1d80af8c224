"""The way to the head and back: a queue, a link that may break, and a record of what was sent."""
