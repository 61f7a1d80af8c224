"""What the payload decoders share."""


class PayloadError(ValueError):
    """A message is not what its method promises; the message says how."""
