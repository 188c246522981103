"""The errors that mmcore raises on purpose."""


class MmcoreError(Exception):
    """Base of every error raised on purpose: one line that names the thing and the mend."""


class RequestError(MmcoreError, ValueError):
    """The request was wrong: usage, configuration, a plugin's name, or data (exit status 2)."""


class PluginError(MmcoreError):
    """A plugin cannot be used; its own failure is the cause."""
