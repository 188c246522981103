"""How a trained model's questions are read: by the columns, missing values and transforms of the run that trained it."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.config import SamplingOptions
from mmcore.data import Dataset, Source, as_source
from mmcore.data.embed import Embedded
from mmcore.data.opening import kept_vectors, transforms_of
from mmcore.data.options import PARTS, ColumnOptions, DataOptions, EmbedOptions
from mmcore.data.select import Named
from mmcore.data.source import Row
from mmcore.data.sources.files import shown
from mmcore.data.transforms import Transform
from mmcore.errors import RequestError, nearest, plainly
from mmcore.files import expanded
from mmcore.model.devices import pick_device
from mmcore.model.joint import JointModel
from mmcore.options import PATH, instance, require
from mmcore.plugins import Registry, discover
from mmcore.runs.asking import ask
from mmcore.runs.given import Given, Values, check_stems, raws, turns
from mmcore.runs.known import read_mask, seen
from mmcore.runs.rows import Columns, Opened, Worded, by_place, named, rows_at, warn_of_others
from mmcore.runs.run import CONFIG, Run
from mmcore.sampling.ask import sample
from mmcore.store.model import load, model_in

_ASKED = ("model", "n", "given", "where", "absent", "start", "strength", "numbers", "batch_size", "registry", "watch")
HOW = tuple(name for name in inspect.signature(sample).parameters if name not in _ASKED)
"""The arguments of :func:`mmcore.sample` that say how an answer is found, not what is asked."""


@attrs.frozen(eq=False, repr=False)
class Reader:
    """A trained model, and how its data were read.

    Attributes:
        model: in evaluation mode, where it was read from a folder.
        folder: the model's; None for one at hand.
        registry: where sources and transforms are found.
        run: whose model it is; None for a model folder by itself.
        how: arguments of :func:`mmcore.sample`, as the run's configuration says them.
        n: how many samples it says.
        data: what the configuration says of data; None for a model that was trained without one.
    """

    model: JointModel
    folder: Path | None
    registry: Registry
    run: Run | None
    how: dict[str, Any]
    n: int
    data: DataOptions | None

    @classmethod
    def open(cls, at: str | Path, *, registry: Registry | None = None, device: str | torch.device = "auto") -> Self:
        """The reader of a run's folder, of a model folder, or of a folder that :func:`mmcore.fit` has trained into.

        Raises:
            RequestError: it is neither, or cannot be used here.
        """
        if isinstance(at, JointModel):
            raise RequestError(
                "a model at hand was given, expected a folder; Reader.of(model) reads by a model at hand"
            )
        require("reader", at=(at, PATH))
        at, registry = expanded(at), registry or discover()
        # A training in Python has left a model and no configuration.
        folder = model_in(at)
        if (at / CONFIG).exists() or folder is None:
            run = Run.open(at, registry)
            config = run.setup.config
            return cls(
                run.model(device), at / "model", registry, run, config.sampling.how(), config.sampling.n, config.data
            )
        model = load(folder, registry=registry, device=str(pick_device(device)))
        return attrs.evolve(cls.of(model, registry=registry), folder=folder)

    @classmethod
    def of(cls, model: JointModel, *, registry: Registry | None = None) -> Self:
        """The reader of a model at hand: by the columns and transforms that it was trained with, where it knows of any.

        Raises:
            RequestError: it is no model.
        """
        require("reader", model=(model, instance(JointModel, "a JointModel")))
        plain = SamplingOptions()
        tables: Any = (model.configuration or {}).get("data")
        # Columns and transforms are all that reading needs: the source may be of a plugin that is not here.
        kept = {key: tables[key] for key in ("source", "columns", "transforms") if key in tables} if tables else {}
        data = DataOptions(**kept) if kept else None
        return cls(model, None, registry or discover(), None, plain.how(), plain.n, data)

    def __repr__(self) -> str:
        where = "" if self.folder is None else f"{self.folder}, "
        return plainly(f"<Reader: {where}a model of {', '.join(m.name for m in self.model.variables)}>")

    @property
    def columns(self) -> Mapping[str, ColumnOptions]:
        """Where the run's variables are, by name, where it says so."""
        return {} if self.data is None else self.data.columns

    def dataset(
        self,
        source: Iterable[Row],
        *,
        on_bad_row: str = "stop",
        passing: str = 'on_bad_row = "skip" (--skip-bad-rows)',
    ) -> Dataset:
        """Rows as the model sees them: what is random in transforms is left out, as of rows that are held out."""
        return Dataset(
            source,
            self.model.variables,
            transforms=self._transforms(),
            augment=False,
            on_bad_row=on_bad_row,
            unpaired=True,
            passing=passing,
        )

    def _transforms(self) -> list[Transform]:
        return [] if self.data is None else transforms_of(self.registry, self.data)

    # ---- single values ----

    def read(self, given: Mapping[str, Any], n: int | None = None, *, option: str = "given") -> dict[str, Tensor]:
        """Values to ask about, prepared as training data were.

        Args:
            given: by variable a file, a folder or pattern of files, a table, or a value such as a class's name; or a list of raw values.
            n: how many samples; several values are taken in turn. By default as many as there are values.
            option: what messages call it.

        Returns:
            ``(n, *spec.shape)`` by name, for ``given`` or ``start`` of :func:`mmcore.sample`.

        Raises:
            RequestError: no such variable or file, a value that cannot be read, or more values than samples.
        """
        asked = self.asked(given, option=option)
        return asked.repeated(len(asked.rows) if n is None else n, option)

    def asked(self, given: Mapping[str, Any], *, option: str = "given") -> Values:
        """The same, a row for each value, and the raw values."""
        names = [m.name for m in self.model.variables]
        found: dict[str, list[Any]] = {}
        for name, value in given.items():
            if name not in names:
                raise RequestError(f"{option} {name}: expected one of {', '.join(names)}{nearest(name, names)}")
            what = f"{option} {name}={shown(str(value))}" if isinstance(value, str | Path) else f"{option} {name}"
            column = self.columns.get(name, ColumnOptions(name))
            found[name] = raws(self.model.variable(name), value, what, column)
            if any(one is None for one in found[name]):
                number = [one is None for one in found[name]].index(True)
                raise RequestError(
                    f"{what}: found nothing in value {number + 1} of {len(found[name])}, expected a value"
                )
        count = max((len(values) for values in found.values()), default=0)
        lists = {name: values for name, values in found.items() if len(values) == count > 1}
        for name, values in found.items():
            if len(values) not in (1, count):
                many = next(iter(lists))
                raise RequestError(
                    f"{option} {name}: found {len(values)} values beside {count} of {many}, expected one, or one for each"
                )
        check_stems(option, lists)
        rows = [{name: values[min(k, len(values) - 1)] for name, values in found.items()} for k in range(count)]
        if not rows:
            return Values({}, [])
        batch = self.dataset(Given(rows, option, given), passing="").take(range(count))
        return Values({name: batch.values[name] for name in given}, rows)

    def known(self, name: str, mask: str | Path | np.ndarray, asked: Values, n: int) -> Tensor:
        """Which elements of a given value are known, of a picture's bright pixels or an array's true elements.

        Args:
            name: of a variable with pixels, or of one whose axes the array has.
            mask: a picture or a ``.npy`` file of booleans, or the booleans: of the size of the given file, or as the model has the value.
            asked: what is given.
            n: how many samples.

        Returns:
            ``(n, *spec.shape)`` bool, for ``where`` of :func:`mmcore.sample`.

        Raises:
            RequestError: a file that is none, or of another size.
        """
        what = f"--where {name}={shown(str(mask))}" if isinstance(mask, str | Path) else f"where {name}"
        found = read_mask(mask, what)
        rows = asked.rows or [{}]
        parts = [seen(self.model, self._transforms(), name, found, row.get(name), what) for row in rows]
        return torch.from_numpy(np.stack(parts))[turns(len(parts), n, "where")]

    def rows(self, data: Any, columns: Columns | None = None) -> Opened:
        """Rows to be asked about.

        Args:
            data: a part of the run's own data (``"test"``), a path of data in any form that ``mmcore init`` reads, a picture, a pattern of
                pictures, or rows as :class:`mmcore.data.Dataset` takes them.
            columns: where variables' values are, where the run's configuration does not say it of these data.

        Raises:
            RequestError: nothing there, nothing that is read, or no column that is a variable.
        """
        if isinstance(data, str | Path):
            require("rows", data=(data, PATH))
        if isinstance(data, str | Path) and str(data) in PARTS and not Path(data).exists():
            if self.run is None:
                found = "a model at hand" if self.folder is None else "a model folder without its run"
                raise RequestError(f"{data}: found {found}, which keeps no data, expected rows or the path of data")
            if columns:
                raise RequestError(f"{data}: the run's own data have their columns, expected no others")
            return Opened(self.run.setup.rows(str(data)).source, [f"{data}: the run's own rows"])
        if isinstance(data, str | Path):
            source, said = rows_at(self.registry, self.data, data, self.model.variables)
        else:
            source, said = as_source(data), []
        embedded = [] if self.data is None else list(self.data.embed)
        found, more = named(self.model.variables, self.columns, source, columns or {})
        if not isinstance(data, str | Path):
            told = {one.column for one in embedded}
            warn_of_others(source, found, self.model.variables, told)
        source = Worded(Named(source, found), self.model.variables)
        more += by_place(source, self.model.variables)
        for one in embedded:
            if one.variable not in found:
                source = self._embedded(source, one, more)
        return Opened(source, [*said, *more], found)

    def _embedded(self, source: Source, one: EmbedOptions, said: list[str]) -> Source:
        """A source with the vectors of a column, which are made now where they are not kept already."""
        if not any(one.column in source[index] for index in range(min(len(source), 64))):
            return source
        # A row that cannot be read is told when it is read.
        cache, _ = kept_vectors(self.registry, source, one, on_bad_row="skip")
        said.append(f"{one.variable}: vectors of {one.column} by {one.embedder}, as in the run's data")
        return Embedded(source, one, cache)

    # ---- to ask ----

    def ask(self, n: int | None = None, **question: Any) -> dict[str, Tensor]:
        """Ask the model, as ``mmcore sample`` does: ``reader.ask(16, given={"image": "a.png"}, steps=20)``.

        Args:
            n: how many samples; by default one for each value given, or if there is but one as many as the run's configuration says.
            **question: ``given``, ``where``, ``absent``, ``start``, ``strength``, ``guidance``, ``guide`` and how to sample, as the command has
                them; values by name as :meth:`read` takes them.

        Returns:
            ``(n, *spec.shape)`` by name; what was given is among them.

        Raises:
            RequestError: a value that cannot be read, or a question that makes no sense.
        """
        return ask(self, n, **question).values

    @property
    def saw_parts(self) -> bool:
        """Whether training rows were observed in part, without which parts are filled in at best by chance; true where nothing tells it."""
        told: Any = self.model.configuration or {}
        for key in ("training", "roles", "partial"):
            told = told.get(key) if isinstance(told, Mapping) else None
        return told is None or bool(told)

    def asking(self, **changes: Any) -> dict[str, Any]:
        """Arguments of :func:`mmcore.sample` as the run has them, but for changes that are not None.

        Raises:
            RequestError: a change that is no such argument, or one that the question itself gives.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        for name in given:
            if name not in HOW:
                raise RequestError(f"{name} = {given[name]!r}: expected one of {', '.join(HOW)}{nearest(name, HOW)}")
        how = dict(self.how)
        sampler = given.get("sampler", how.get("sampler"))
        if sampler != how.get("sampler"):
            # Another sampler begins with its own options; a plugin's may have no such one, and an object has them already.
            how |= {"eta": None} | ({} if sampler in ("ancestral", "ddim") else {"codes": None})
            how |= {} if isinstance(sampler, str) else {"steps": None, "spacing": None}
        return how | given
