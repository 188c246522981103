"""Questions: what a conditional query gives and asks for, as data, checked against a model."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Self

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.errors import OptionError, PluginError, RequestError
from mmcore.modality.base import Modality
from mmcore.modality.holes import seen_of, some_there, whole_of
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role
from mmcore.plugins.loading import brief

CONDITIONING = ("roles", "posterior", "rejection")

Absent = Collection[str] | Mapping[str, Tensor]


@attrs.frozen(eq=False)
class Question:
    """A conditional query: what is given, absent and asked for in each row.

    Attributes:
        roles: ``(B, V)``, what each variable is to each row.
        told: ``(B, V)``, the roles as the network is told them: with ``conditioning="posterior"`` what is
            observed is told as generated.
        known: a value for every variable, placeholders where nothing is known.
        seen: which elements of generated modalities are known, by name, and told to the network.
        fixed: ``(B, D)`` bool, the code elements that replace predictions in the posterior; None for none.
        where: which elements of each given variable come back as they are given, ``(B, *spec.shape)`` bool by name; the void ones among them are not known.
    """

    roles: Tensor
    told: Tensor
    known: dict[str, Tensor]
    seen: dict[str, Tensor]
    fixed: Tensor | None
    where: dict[str, Tensor]

    @classmethod
    def ask(
        cls,
        model: JointModel,
        n: int,
        *,
        given: Mapping[str, Tensor],
        where: Mapping[str, Tensor],
        absent: Absent,
        conditioning: str = "roles",
    ) -> Self:
        """Check the arguments of :func:`mmcore.sample` against a model, and make them a query of ``n`` rows.

        Raises:
            RequestError: unknown names, values or masks that do not fit, a wrong batch size, a modality both given
                and absent, or nothing left to generate.
        """
        if n < 1:
            raise OptionError("sample", "n", n, "at least 1")
        if not isinstance(conditioning, str) or conditioning not in CONDITIONING:
            raise OptionError("sample", "conditioning", conditioning, choices=CONDITIONING)
        absent_rows = (
            dict(absent) if isinstance(absent, Mapping) else {name: torch.ones(n, dtype=torch.bool) for name in absent}
        )
        _check_names(model, given, where, absent_rows, n)
        names = [m.name for m in model.variables]
        roles = torch.full((n, len(names)), int(Role.GENERATE))
        known, seen, elements = {}, {}, {}
        for column, m in enumerate(model.variables):
            known[m.name] = m.spec.placeholder(n)
            if not model.heads.reads(m.name):
                roles[:, column] = Role.ABSENT
            if m.name in given:
                m.spec.check(given[m.name], f"given {m.name!r}")
                if len(given[m.name]) != n:
                    raise RequestError(f"sample: given {m.name!r} has {len(given[m.name])} rows, expected n = {n}")
                mask = _elements(m, where.get(m.name), n)
                # Unknown elements hold placeholders: nothing that the caller left there can reach the answer.
                known[m.name] = torch.where(mask, given[m.name], known[m.name])
                elements[m.name] = mask
                _check_together(m, mask)
                told = seen_of(m, given[m.name], mask)
                whole, some = mask.reshape(n, -1).all(1), told.reshape(n, -1).any(1)
                # Of what is void as a whole nothing is observed; it comes back as it is.
                roles[whole, column] = torch.where(some[whole], int(Role.OBSERVE), int(Role.ABSENT))
                if (some & ~whole).any():
                    if not model.divisible(m):
                        raise RequestError(f"sample: {m.name!r} cannot be observed in part, expected all of it or none")
                    if not model.heads.reads(m.name):
                        raise RequestError(f"sample: no task recovers {m.name!r}, expected all of it to be given")
                    seen[m.name] = told & ~whole.reshape(-1, *[1] * (mask.ndim - 1))
            if m.name in absent_rows:
                if m.name in elements and (both := absent_rows[m.name] & elements[m.name].reshape(n, -1).any(1)).any():
                    raise RequestError(
                        f"sample: {m.name} both given and absent in row {int(both.nonzero()[0])}, expected at most one"
                    )
                roles[absent_rows[m.name], column] = Role.ABSENT
        asks = ((roles == Role.GENERATE) & model.driver.encoded.cpu()).any(1)
        if not asks.all():
            raise RequestError(
                f"sample: in row {int((~asks).nonzero()[0])} every modality is given, absent or only observed: nothing is "
                "left to generate"
            )
        fixed, told = None, roles
        if conditioning == "posterior":
            readable = torch.tensor([model.heads.reads(name) for name in names])
            if bool(((roles == Role.OBSERVE) & ~readable).any()):
                expected = "roles, as a modality is given that no task recovers"
                raise OptionError("sample", "conditioning", conditioning, expected, beside=["given"])
            told = torch.where(roles == Role.OBSERVE, int(Role.GENERATE), roles)
            fixed = _fixed(model, elements, known, n)
            seen = {}
        return cls(roles, told, known, seen, fixed, elements)

    def parts(self, model: JointModel) -> dict[str, Tensor]:
        """Which elements are known of what is observed in part, ``(B, *spec.shape)`` bool by name, whether or not the network is told."""
        if self.fixed is None:
            return self.seen
        there = ((model.variable(name), where) for name, where in self.where.items())
        return {m.name: seen_of(m, self.known[m.name], where) for m, where in there if model.divisible(m)}

    def without(self, column: int) -> Self:
        """The same query, one variable's observation left out."""
        observed = self.roles[:, column] == Role.OBSERVE
        told = self.told.clone()
        told[observed, column] = Role.ABSENT
        return attrs.evolve(self, told=told)

    def rows(self, rows: Tensor) -> Self:
        """The same query for some rows."""
        return self._map(lambda x: x[rows])

    def to(self, device: torch.device) -> Self:
        """The same query on a device."""
        return self._map(lambda x: x.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        tables = {name: {k: change(x) for k, x in getattr(self, name).items()} for name in ("known", "seen", "where")}
        fixed = None if self.fixed is None else change(self.fixed)
        return attrs.evolve(self, roles=change(self.roles), told=change(self.told), fixed=fixed, **tables)


def rows_of(model: JointModel, values: Mapping[str, Any], n: int, option: str) -> dict[str, Any]:
    """Values as a caller may give them, as tensors of ``n`` rows; names and tensors that do not fit are left for the question to refuse.

    Args:
        model: whose modalities read them.
        values: by name a tensor ``(n, *spec.shape)``, or one of ``spec.shape`` for all rows; a list or an array of ``n`` raw values, as
            :meth:`Modality.read <mmcore.modality.base.Modality.read>` takes them; or one raw value for all rows, of a vector also the list of its numbers.
        n: rows.
        option: where they were given, for the error.

    Raises:
        RequestError: a raw value that cannot be read, another number of them, or an array that may be one value or ``n``.
    """
    modalities = {m.name: m for m in model.variables}
    found = dict(values)
    for name, x in values.items():
        m = modalities.get(name)
        if m is None:
            continue
        if not isinstance(x, Tensor):
            label = f"{option} {name!r}"
            if isinstance(x, list | tuple):
                x = _list(m, x, n, label)
            elif isinstance(x, np.ndarray):
                x = _array(m, x, n, label)
            else:
                x = _read(m, x, label)
        found[name] = x.expand(n, *x.shape) if x.shape == m.spec.shape else x
    return found


def flags_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Booleans by name, of arrays and lists as tensors; what is no booleans is left for the question to refuse."""
    found = dict(values)
    for name, x in values.items():
        if isinstance(x, np.ndarray | list | tuple):
            try:
                array = np.array(x)
            # Of lists of different lengths, or of tensors that no array can be made of.
            except (ValueError, TypeError, RuntimeError):
                continue
            if array.dtype == bool:
                found[name] = torch.from_numpy(array)
    return found


def _list(m: Modality, x: Sequence[Any], n: int, label: str) -> Tensor:
    """A list of ``n`` values; or one vector, where it is as many numbers as that has and no value for each row."""
    real = m.spec.dtype.is_floating_point and m.spec.shape == (len(x),)
    vector = real and all(isinstance(one, Real) and not isinstance(one, bool) for one in x)
    if len(x) == n:
        try:
            return _each(m, x, label)
        except RequestError:
            if not vector:
                raise
    elif not vector:
        raise RequestError(f"sample: {label} has {len(x)} values, expected one for each of n = {n}, or a tensor")
    return _read(m, x, label)


def _array(m: Modality, x: np.ndarray, n: int, label: str) -> Tensor:
    """An array by its shape: a value for each row, ``(n, *spec.shape)``; one for all; or as the modality reads it, where one way alone can be read."""
    if x.shape == (n, *m.spec.shape):
        return _each(m, x, label)
    if x.shape == m.spec.shape or not x.ndim or len(x) != n:
        return _read(m, x, label)
    try:
        whole = _read(m, x, label)
    except RequestError:
        return _each(m, x, label)
    try:
        _each(m, x, label)
    except RequestError:
        return whole
    raise RequestError(
        f"sample: {label} is an array {x.shape}, which may be one value or one for each of n = {n}, expected a list of {n} values, or a tensor"
    )


def _each(m: Modality, raws: Iterable[Any], label: str) -> Tensor:
    """Raw values, ``(n, *spec.shape)``."""
    return torch.stack([_read(m, raw, label) for raw in raws])


def _read(m: Modality, raw: Any, label: str) -> Tensor:
    """One raw value, read and checked."""
    try:
        x = m.read(raw)
    except PluginError:
        raise
    except RequestError as error:
        raise RequestError(f"sample: {label}: {error}") from error
    except Exception as error:
        raise RequestError(
            f"sample: {label}: reading it gave {brief(error)}, expected a value that can be read"
        ) from error
    m.spec.check(x[None], label)
    return x


def _check_names(
    model: JointModel,
    given: Mapping[str, Tensor],
    where: Mapping[str, Tensor],
    absent_rows: Mapping[str, Tensor],
    n: int,
) -> None:
    names = [m.name for m in model.variables]
    encoded = [m.name for m in model.modalities]
    for option, group in (("given", given), ("where", where), ("absent", absent_rows)):
        for name in group:
            if name not in names:
                raise RequestError(f"sample: {option} names {name!r}, expected one of {', '.join(names)}")
            if option == "given" and name not in encoded:
                raise RequestError(f"sample: {name!r} is given, but it has no encoding: it can only be predicted")
            if option == "where" and name not in given:
                raise RequestError(f"sample: where names {name!r}, which is not given; expected its values too")
    for name, mask in absent_rows.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (n,):
            description = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise RequestError(f"sample: absent {name!r} is {description}, expected booleans ({n},), one per row")
        if name in given and name not in where and mask.any():
            raise RequestError(f"sample: {name} both given and absent, expected at most one")


def _elements(m: Modality, mask: Tensor | None, n: int) -> Tensor:
    """Which elements are known, ``(n, *spec.shape)``."""
    shape = (n, *m.spec.shape)
    if mask is None:
        return torch.ones(shape, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape not in ((n,), shape):
        description = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise RequestError(
            f"sample: where {m.name!r} is {description}, expected booleans {shape}, True where observed, or ({n},), one per row"
        )
    return mask.reshape(n, *[1] * len(m.spec.shape)).expand(shape) if mask.shape == (n,) else mask


def _check_together(m: Modality, mask: Tensor) -> None:
    """Refuse a mask of a part of what is only observed as a whole."""
    if (torn := (mask & ~whole_of(m, mask)).reshape(len(mask), -1)).any():
        row, element = torn.nonzero()[0].tolist()
        raise RequestError(
            f"sample: where {m.name!r} has element {element} in row {row} without all that is only observed together with it, "
            "expected all of that or none"
        )


def _fixed(model: JointModel, elements: Mapping[str, Tensor], known: Mapping[str, Tensor], n: int) -> Tensor:
    parts = []
    for m in model.modalities:
        size = torch.Size(m.code).numel()
        if m.name not in elements:
            parts.append(torch.zeros(n, size, dtype=torch.bool))
        elif model.divisible(m):
            parts.append(m.code_where(seen_of(m, known[m.name], elements[m.name])).reshape(n, -1))
        else:
            whole = elements[m.name].reshape(n, -1).all(1) & some_there(m, known[m.name])
            parts.append(whole[:, None].expand(-1, size))
    return torch.cat(parts, dim=1)
