"""The tap: sources that record links as captures, and decoders that read the captures."""
