"""The version; imports nothing."""

__version__ = "0.1.0"
"""Of the installed core."""
