"""Vectors that a pretrained network makes of raw values: made once, kept on disk by content, and read as one more column."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np

from mmcore import files
from mmcore.data.decode import content, decode
from mmcore.data.npy import from_npy, npy_header
from mmcore.data.options import EmbedOptions
from mmcore.data.source import LazyRow, Row, Source
from mmcore.data.sources.arrays import Stored
from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.limits import FILE

if TYPE_CHECKING:
    from torch import Tensor

    from mmcore.plugins import Registry

PART = 1024
"""Vectors in one file of a cache; what a killed run loses at most."""


class Embedder(Protocol):
    """Anything that turns raw values into vectors: CLIP, an autoencoder's encoder …

    Attributes:
        fingerprint: a text that differs whenever the vectors would, such as a digest of the weights and the options.
    """

    fingerprint: str

    def __call__(self, values: Sequence[Any], /) -> "Tensor":
        """Decoded raw values (images, arrays, texts) to float vectors or maps ``(n, *shape)``."""
        ...


@attrs.frozen
class EmbedReport:
    """What embedding one column did.

    Attributes:
        variable: what the vectors are called.
        rows: of the source.
        missing: rows without a value.
        found: different values whose vectors were kept from before.
        made: different values turned into vectors now.
        bad: the rows that could not be read, skipped.
        folder: where the vectors are.
    """

    variable: str
    rows: int
    missing: int
    found: int
    made: int
    bad: tuple[str, ...]
    folder: Path


class Vector(np.ndarray):
    """An embedded value that knows where it is from.

    Attributes:
        fingerprint: of the embedder that made it; empty where nobody knows.
        of: the raw value that it was made of, as the source has it.
    """

    fingerprint: str
    of: Any

    def __array_finalize__(self, obj: Any) -> None:
        self.fingerprint, self.of = getattr(obj, "fingerprint", ""), getattr(obj, "of", None)

    def __reduce__(self) -> Any:
        return _known, (np.asarray(self), self.fingerprint, self.of)


def _known(array: np.ndarray, fingerprint: str, of: Any) -> Vector:
    vector = array.view(Vector)
    vector.fingerprint, vector.of = fingerprint, of
    return vector


class Cache:
    """Vectors on disk by the digest of what they were made of; a part counts only when it is whole.

    Args:
        folder: that holds the caches of any number of embedders.
        fingerprint: of the embedder.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.folder = expanded(folder) / hashlib.blake2b(fingerprint.encode(), digest_size=8).hexdigest()
        self._open()

    def _open(self) -> None:
        self._parts: list[Stored] = []
        self._at: dict[bytes, tuple[int, int]] = {}
        # Not those that are being written, whose names begin with a dot.
        for keys in sorted(self.folder.glob("[!.]*.keys.npy")):
            vectors = keys.with_name(keys.name.replace(".keys.", ".vectors."))
            try:
                self._take(from_npy(files.read(keys, FILE)), vectors)
            # A damaged file makes numpy raise nearly anything.
            except Exception as error:
                what = f"embed: found the vectors of {keys} damaged ({error})"
                raise RequestError(
                    f"{what}; remove it and run mmcore embed again, which makes only these anew"
                ) from error

    def _take(self, keys: np.ndarray, vectors: Path) -> None:
        with files.opened(vectors) as file:
            header = npy_header(file)
            if header is None or header[1] or header[2].hasobject:
                raise ValueError("vectors of another kind than those that are written here")
            part = Stored(vectors, header[2], file.tell(), header[0])
        if len(part) != len(keys):
            raise ValueError(f"{len(keys)} keys and {len(part)} vectors")
        self._parts.append(part)
        self._at |= {key.tobytes(): (len(self._parts) - 1, row) for row, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: bytes) -> bool:
        return key in self._at

    def __getitem__(self, key: bytes) -> np.ndarray:
        part, row = self._at[key]
        return np.asarray(self._parts[part][row])

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep ``vectors (n, *shape)`` by their keys; the keys are written last, so that half a part is none."""
        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
        at = [_written(self.folder, f"{name}.vectors.npy", vectors), _written(self.folder, f"{name}.keys.npy", table)]
        self._take(table, at[0])

    def __reduce__(self) -> Any:
        return _reopened, (self.folder, self.fingerprint)


def _reopened(folder: Path, fingerprint: str) -> Cache:
    cache = Cache.__new__(Cache)
    cache.folder, cache.fingerprint = folder, fingerprint
    cache._open()
    return cache


def _written(folder: Path, name: str, array: np.ndarray) -> Path:
    data = io.BytesIO()
    np.save(data, array)
    files.write(folder / name, data.getvalue(), durable=True)
    return folder / name


def digest(raw: Any) -> bytes:
    """Sixteen bytes that raw values share just if their content is equal."""
    return hashlib.blake2b(content(raw), digest_size=16).digest()


def embed_column(
    source: Source,
    column: str,
    embedder: Embedder,
    cache: Cache,
    *,
    variable: str = "",
    batch_size: int = 32,
    on_bad_row: str = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> EmbedReport:
    """Turn every different value of a column into a vector, unless the cache has it; a killed run goes on where it was.

    Args:
        source: of the rows.
        column: whose values are embedded.
        embedder: what turns them into vectors.
        cache: where the vectors go.
        variable: for the report; the column's name by default.
        batch_size: values at once.
        on_bad_row: ``"stop"``, or ``"skip"`` rows that cannot be read.
        progress: called with the rows done and all rows.

    Raises:
        RequestError: a row that cannot be read, or vectors that are not finite or of another number than the values.
    """
    keys: list[bytes] = []
    values: list[Any] = []
    done: dict[bytes, np.ndarray] = {}
    missing, found, made, bad = 0, set(), 0, []

    def run() -> None:
        nonlocal made
        if keys:
            vectors = _vectors(embedder, values, column)
            done.update(zip(keys, vectors, strict=True))
            made += len(keys)
            keys.clear()
            values.clear()

    def store() -> None:
        if done:
            cache.add(list(done), np.stack(list(done.values())))
            done.clear()

    for index in range(len(source)):
        try:
            raw = source[index].get(column)
            if raw is None:
                missing += 1
                continue
            key = digest(raw)
            if key in cache and key not in done:
                found.add(key)
            elif key not in done and key not in keys:
                values.append(decode(raw))
                keys.append(key)
        except RequestError as error:
            problem = f"{source.where(index)}, {column}: {error}"
            if on_bad_row == "stop":
                raise RequestError(problem) from error
            bad.append(problem)
        if len(keys) == batch_size:
            run()
            if len(done) >= PART:
                store()
        if progress:
            progress(index + 1, len(source))
    run()
    store()
    if missing == len(source):
        names = ", ".join(source.names or source[0])
        raise RequestError(f"embed: found no value in the column {column!r}, expected one of {names}")
    return EmbedReport(variable or column, len(source), missing, len(found), made, tuple(bad), cache.folder)


def _vectors(embedder: Embedder, values: Sequence[Any], column: str) -> np.ndarray:
    vectors = embedder(values).detach().float().cpu().numpy()
    if len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise RequestError(
            f"embed: found {vectors.shape} from {type(embedder).__name__} for {len(values)} values of {column!r}, "
            "expected as many finite vectors"
        )
    return vectors


class Embedded(Source):
    """A source with one more column: the vectors kept for the values of another.

    Args:
        source: of the rows.
        options: the column and the variable.
        cache: of the vectors.
    """

    def __init__(self, source: Source, options: EmbedOptions, cache: Cache) -> None:
        self.source, self.options, self.cache = source, options, cache
        if not len(cache):
            raise RequestError(
                f"data: found no vectors of {options.variable!r} in {cache.folder}, expected them made by mmcore embed"
            )
        self.names = None if source.names is None else (*source.names, options.variable)

    @classmethod
    def of(cls, registry: "Registry", source: Source, options: EmbedOptions) -> "Embedded":
        """With the embedder's cache; the embedder's weights are not loaded."""
        embedder = registry.make("embedder", options.embedder, dict(options.options))[1]
        return cls(source, options, Cache(options.cache, embedder.fingerprint))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Row:
        row, name = self.source[index], self.options.variable
        return LazyRow([*row, name], lambda asked: self._vector(row) if asked == name else row[asked])

    def _vector(self, row: Row) -> np.ndarray | None:
        raw = row.get(self.options.column)
        if raw is None:
            return None
        key = digest(raw)
        if key not in self.cache:
            raise RequestError(
                f"found no vector of this {self.options.column} in {self.cache.folder}, expected one made by mmcore embed"
            )
        return _known(self.cache[key], self.cache.fingerprint, raw)

    def where(self, index: int) -> str:
        return self.source.where(index)

    def key(self, index: int) -> str:
        return self.source.key(index)

    def column(self, name: str) -> Sequence[Any]:
        return super().column(name) if name == self.options.variable else self.source.column(name)
