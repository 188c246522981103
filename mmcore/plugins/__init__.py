"""Discovery: what installed distributions offer, read from metadata, imported on first use.

A distribution offers things by entry points in the group ``mmcore.v1``, named ``kind.name``,
whose value is a torch-free module with hook implementations. :func:`discover` reads only
metadata, so a broken plugin costs nothing until it is asked for, and then it alone fails.
"""

from mmcore.plugins.metadata import GROUP, HOOKS, Entry, Fault
from mmcore.plugins.registry import Registry, discover

__all__ = ["GROUP", "HOOKS", "Entry", "Fault", "Registry", "discover"]
