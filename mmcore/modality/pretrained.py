"""Encoders with the weights of a pretrained network, from a local file: in the model's own weights, or beside it and known by its digest.

Nothing is downloaded. A model folder names no path: of a file it has the SHA-256, by which the file is known again wherever it lies.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from mmcore import files
from mmcore.errors import OptionError, RequestError
from mmcore.files import expanded
from mmcore.limits import RECORD, WEIGHTS

KEEP = ("inside", "beside")
_PIECE = 2**20
_MOST = 1000
"""How many files of a folder are looked at."""
_paths: ContextVar[bool] = ContextVar("paths", default=True)


@attrs.frozen
class WeightsFile:
    """A local safetensors file of weights, known by its digest.

    Attributes:
        sha256: of its bytes, in hexadecimal.
        size: in bytes.
        keep: ``"inside"``, so that a model folder has the weights among its own; or ``"beside"``, so that it has their digest, and the file
            is given again.
        path: where it lies; None where a model's own weights take its place.
    """

    sha256: str
    size: int
    keep: str = "inside"
    path: Path | None = None

    @classmethod
    def of(cls, given: "str | Path | WeightsFile", *, keep: str = "inside") -> Self:
        """What an option that names a file was given; its bytes are read once for the digest.

        Args:
            given: the path of a file; or what a model folder has of one, as it is.
            keep: for a path.

        Raises:
            RequestError: no such file, none that can be read, or a path that comes from a model folder.
        """
        if isinstance(given, cls):
            return given
        if keep not in KEEP:
            raise OptionError("", "keep", keep, choices=KEEP)
        if not isinstance(given, str | Path):
            raise RequestError(f"weights: found {type(given).__name__}, expected the path of a safetensors file")
        if not _paths.get():
            raise RequestError("weights: the model folder names a path, which is never followed")
        path = expanded(given)
        return cls(*_digest(path), keep, path.resolve())

    def tensors(self) -> dict[str, Tensor]:
        """The weights by their names.

        Raises:
            RequestError: the file is gone, has changed since, or is no safetensors file.
        """
        if self.path is None:
            raise RequestError(
                f"weights: of the file {self.sha256[:12]}… nothing but the digest is known; give its path"
            )
        try:
            data = files.read(self.path, WEIGHTS)
        except OSError as error:
            raise RequestError(f"weights: {self.path} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise RequestError(
                f"weights: {self.path} has changed since the modality was made, expected sha256 {self.sha256}"
            )
        try:
            # In memory of their own, aligned.
            return {name: x.clone() for name, x in load(data).items()}
        except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
            raise RequestError(f"weights: {self.path} is no safetensors file: {str(error).splitlines()[0]}") from error

    def record(self) -> dict[str, Any]:
        """What a model folder has of it."""
        return {"sha256": self.sha256, "bytes": self.size, "keep": self.keep}


class Pretrained(nn.Module):
    """A frozen network with the weights of a file, as a part of an encoder: always in evaluation mode, and never trained.

    Where the weights are kept beside the model, no state dict and no checkpoint has them.

    Args:
        make: makes the network, without an argument; its initial weights are put away.
        file: the weights. One without a path leaves them to the model's own, which are loaded next; with None the network keeps its initial ones.
        today: of a name of the file that the network has not, what it calls that weight now.

    Raises:
        RequestError: the file's weights are not those of the network.
    """

    def __init__(
        self, make: Callable[[], nn.Module], file: WeightsFile | None, today: Callable[[str], str] = str
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = make()
        beside = file is not None and file.keep == "beside"
        if file is not None and (beside or file.path is not None):
            _put(net, file, today)
        net.requires_grad_(False).eval()
        # In a tuple torch does not see it: it has no part in the state, and follows to another device by _apply.
        self._beside = (net,) if beside else ()
        if not beside:
            self.net = net

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self._beside[0] if self._beside else self.net

    def forward(self, *args: Any, **options: Any) -> Any:
        """Call the network."""
        return self.network(*args, **options)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: running statistics and dropout are of no use to a code."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for net in self._beside:
            net._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _put(net: nn.Module, file: WeightsFile, today: Callable[[str], str]) -> None:
    own = net.state_dict()
    tensors = {name if name in own else today(name): x for name, x in file.tensors().items()}
    unlike = [name for name in sorted({*tensors, *own}) if name not in own or name not in tensors or tensors[name].shape != own[name].shape]  # fmt: skip
    if unlike:
        name = unlike[0]
        there, here = (tuple(x[name].shape) if name in x else "none" for x in (tensors, own))
        more = f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""
        raise RequestError(f"weights: {file.path} is of another network: {name} is {there} there, {here} here{more}")
    net.load_state_dict(tensors)


def _digest(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, and its length.

    Raises:
        RequestError: it cannot be read, or is too long.
    """
    try:
        with files.opened(path) as file:
            length = files.size(file)
            if too_long := WEIGHTS.excess(length):
                raise OSError(f"it has {too_long}")
            digest = hashlib.sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise RequestError(f"weights: {path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest(), length


def text_of(given: str | Path, option: str) -> str:
    """The text of a local JSON file that an option names, such as a tokenizer; or the text itself, as a model folder has it.

    A modality that reads one says so by ``kept``, that the text is recorded in the place of its path.

    Args:
        given: the path of a file, or its text, which begins with a brace.
        option: messages call it.

    Raises:
        RequestError: no such file, none that can be read, or a path that comes from a model folder.
    """
    if not isinstance(given, str | Path):
        raise RequestError(f"{option}: found {type(given).__name__}, expected the path of a JSON file")
    if isinstance(given, str) and given.lstrip().startswith("{"):
        return given
    if not _paths.get():
        raise RequestError(f"{option}: the model folder names a path, which is never followed")
    try:
        return files.read(expanded(given), RECORD).decode()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RequestError(f"{option}: {given} cannot be read: {why}; expected a JSON file") from error


@contextlib.contextmanager
def no_paths() -> Iterator[None]:
    """While a model folder is made into a model, an option that names a path is refused: nobody here has chosen it."""
    token = _paths.set(False)
    try:
        yield
    finally:
        _paths.reset(token)


def found(wanted: Mapping[str, int], places: Iterable[str | Path]) -> dict[str, Path]:
    """Files by their digests.

    Args:
        wanted: SHA-256 to length.
        places: files, and folders whose ``*.safetensors`` are looked at.

    Raises:
        RequestError: one of the files cannot be read.
    """
    candidates: list[Path] = []
    for place in map(Path, places):
        candidates += sorted(place.glob("*.safetensors"))[:_MOST] if place.is_dir() else [place]
    there: dict[str, Path] = {}
    for path in candidates:
        if not path.exists():
            raise RequestError(f"load: {path}, given beside the model, is not there")
        if path.stat().st_size in wanted.values():
            there.setdefault(_digest(path)[0], path)
    return {digest: there[digest] for digest in wanted if digest in there}
