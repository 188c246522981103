"""Opt-outs: what a plugin does not do, as data that every report shows."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from mmcore import files
from mmcore.errors import RequestError
from mmcore.limits import CONFIGURATION


def _reason(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"opt-out: {field.name} is {value!r}, expected words")


@attrs.frozen
class Unsupported:
    """A capability that the plugin does not have; the kit asserts that using it raises an error, in one dtype or on one device at least.

    Attributes:
        check: the check's id.
        reason: why.
    """

    check: str = attrs.field(validator=_reason)
    reason: str = attrs.field(validator=_reason)


@attrs.frozen
class KnownFailure:
    """A fault that is known and will be mended.

    Attributes:
        check: the check's id.
        reason: what is wrong.
        until: the version of mmcore from which on this is no excuse.
    """

    check: str = attrs.field(validator=_reason)
    reason: str = attrs.field(validator=_reason)
    until: str = attrs.field(validator=_reason)


@attrs.frozen
class Tolerance:
    """Another tolerance for a check, in place of its own.

    Attributes:
        check: the check's id.
        value: in place of the check's own; for a core check at most ten times that.
        reason: why.
        dtype: for this dtype only, such as ``"bfloat16"``.
        device: for this device only, such as ``"cuda"``.
    """

    check: str = attrs.field(validator=_reason)
    value: float
    reason: str = attrs.field(validator=_reason)
    dtype: str | None = None
    device: str | None = None


@attrs.frozen
class OptOuts:
    """What a plugin is excused from: capabilities that it lacks, faults that are known, other tolerances.

    Attributes:
        unsupported: capabilities that are not there.
        known_failures: faults that are known.
        tolerances: other numbers for what counts as equal.
    """

    unsupported: tuple[Unsupported, ...] = attrs.field(default=(), converter=tuple)
    known_failures: tuple[KnownFailure, ...] = attrs.field(default=(), converter=tuple)
    tolerances: tuple[Tolerance, ...] = attrs.field(default=(), converter=tuple)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a TOML file with tables ``[[unsupported]]``, ``[[known_failures]]`` and ``[[tolerances]]``.

        Raises:
            RequestError: a file that cannot be read, or entries that are none of these.
        """
        try:
            found: Mapping[str, Any] = tomllib.loads(files.read(path, CONFIGURATION).decode())
        except (OSError, ValueError, RecursionError) as error:
            raise RequestError(f"opt-outs: {path} cannot be read: {error}") from error
        kinds = {"unsupported": Unsupported, "known_failures": KnownFailure, "tolerances": Tolerance}
        if wrong := set(found) - set(kinds):
            raise RequestError(f"opt-outs: {path} has {', '.join(sorted(wrong))}, expected only {', '.join(kinds)}")
        try:
            return cls(**{name: [kinds[name](**entry) for entry in entries] for name, entries in found.items()})
        except TypeError as error:
            raise RequestError(f"opt-outs: {path}: {error}") from error

    def all(self) -> tuple[Unsupported | KnownFailure | Tolerance, ...]:
        """Every one of them."""
        return (*self.unsupported, *self.known_failures, *self.tolerances)
