"""``mmcore init``."""


def init() -> None: ...
