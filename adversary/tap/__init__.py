"""The tap: sources that record a link, and decoders of what they recorded."""
