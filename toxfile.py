"""What tox does besides its configuration.

With TOX_DISCARD=1 an environment is removed as soon as it has run. Each holds its own torch, and all of them
together take 8 GB, which a small continuous-integration machine does not have.
"""

import os
import shutil

from tox.plugin import impl
from tox.tox_env.api import ToxEnv


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Remove `tox_env` where TOX_DISCARD=1."""
    if os.environ.get("TOX_DISCARD") == "1":
        shutil.rmtree(tox_env.env_dir)
