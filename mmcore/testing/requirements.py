"""Which checks count for which version of the plugin interface.

A set is open until its version of the interface is released; from then on it is frozen. A check that comes later is
provisional for plugins of that version: told, but without a say in the verdict.
"""

import json
from importlib.resources import files
from typing import Any

from mmcore.plugins import GROUP

API = GROUP.rpartition(".")[2]
"""The version of the plugin interface, such as ``"v1"``."""


def sets() -> dict[str, Any]:
    """All sets by version and kind, each with ``core`` and ``rest``, and whether it is frozen."""
    return json.loads(files("mmcore.testing").joinpath("requirements.json").read_text(encoding="utf-8"))


def required(kind: str, id: str, api: str = API) -> bool:  # noqa: A002
    """Whether a check counts for plugins of this version; where a kind has no set, all do."""
    found = sets().get(api, {}).get(kind)
    return found is None or not found["frozen"] or id in (*found["core"], *found["rest"])
