"""Measurements of speed and quality, runnable by anyone: ``python -m benchmarks.step`` and so on."""
