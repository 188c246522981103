"""Runs: a configuration carried out, its folder, its page and its pictures."""
