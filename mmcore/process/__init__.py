"""The mathematics that runs: noise schedules, the diffusion process in closed form, and the variational bound.

No module here knows of networks, files, devices or plugins. Training, sampling and evaluation call these very functions.
"""

from mmcore.process import bound, schedule
from mmcore.process.blocks import Blocks
from mmcore.process.coefficients import Jump, Level, widen
from mmcore.process.gaussian import Gaussian
from mmcore.process.process import Process
from mmcore.process.schedule import Schedule

__all__ = ["Blocks", "Gaussian", "Jump", "Level", "Process", "Schedule", "bound", "schedule", "widen"]
