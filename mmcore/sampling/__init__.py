"""Sampling: from a question to its samples."""
