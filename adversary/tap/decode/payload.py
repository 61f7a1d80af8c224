"""The error that payload decoders share."""


class PayloadError(ValueError):
    """A message does not follow the format of its method; the error says how."""
