"""The documentation; and its names, which tests hold to the code."""
