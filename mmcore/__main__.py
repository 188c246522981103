"""``python -m mmcore``."""

from mmcore.cli import main

main()
