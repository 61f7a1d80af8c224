"""Errors about devices that the user can mend."""


class ExportError(ValueError):
    """An encoder cannot be exported; the message is one line."""
