"""Sources of files: each a lazy sequence of rows, found by name through its entry point."""
