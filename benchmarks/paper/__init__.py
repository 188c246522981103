"""The article's four settings and the question it left open, measured: ``python -m benchmarks.paper NAME --data PATH``."""
