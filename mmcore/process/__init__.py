"""The mathematics by itself: schedules, the process in closed form, and the bound.

No module here knows of networks, files, devices or plugins.
"""

from mmcore.process import bound, schedule
from mmcore.process.blocks import Blocks
from mmcore.process.gaussian import Gaussian
from mmcore.process.process import Jump, Level, Process, widen
from mmcore.process.schedule import Schedule

__all__ = ["Blocks", "Gaussian", "Jump", "Level", "Process", "Schedule", "bound", "schedule", "widen"]
