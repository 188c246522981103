"""The command line, one module for each command; imports no torch until work begins."""
