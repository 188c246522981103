"""Short texts: symbols up to an end, each place with a categorical likelihood."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.hooks import Proposal
from mmcore.limits import SPACE, takes
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.length import chances, counted, ended, told
from mmcore.modality.likelihood import total
from mmcore.options import one_of, require, whole
from mmcore_text.symbols import Tokens, symbols_of

NAMES = frozenset(
    ("caption", "captions", "comment", "description", "phrase", "sentence", "text", "texts", "title", "transcript")
)
"""Words of a column's name that say it has texts."""
WORDS, LETTERS = 512, 64
"""Most words of a list, and most characters of a text, that are proposed."""
RARE = 1e-4
"""The least frequency that a symbol is taken for, so that no code is very large."""


class TextModality(Modality):
    """Texts of up to ``length`` symbols: characters, words or tokens.

    A sample has ``length`` places. The symbol 0 is the end, and there is nothing but it after the first one, which is all the padding that
    there is: so the model draws the length too. Each place has a categorical likelihood, up to the end.

    The code has a few numbers for each place, by a fixed table of the symbols that is white over the data.

    Args:
        length: the most symbols that a text has.
        alphabet: the characters that texts are made of; small letters and the space by default.
        words: in its place, the words that texts are made of, between spaces.
        tokenizer: in its place, the path of a ``tokenizer.json`` of Hugging Face's library. A saved model has its text, and needs the file no more.
        cut: leave out what is beyond ``length``; by default such a text is refused.
        channels: how many numbers the code has for each place, 8 by default and at most one less than there are symbols with the end.
        frequencies: of the end and of each symbol, measured if left out.

    Raises:
        OptionError: an option that is none of these.
    """

    # Values are drawn, never averaged: there is nothing between two symbols.
    discrete = True

    def __init__(
        self,
        length: int = 16,
        *,
        alphabet: str | None = None,
        words: Sequence[str] | None = None,
        tokenizer: str | None = None,
        cut: bool = False,
        channels: int | None = None,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        require(
            "text", length=(length, whole(1)), cut=(cut, one_of(True, False)), channels=(channels, whole(1).or_none())
        )
        self.symbols = symbols_of(alphabet, words, tokenizer)
        if isinstance(self.symbols, Tokens):
            self.kept = {"tokenizer": self.symbols.text}
        count = len(self.symbols.names) + 1
        size = min(8, count - 1) if channels is None else channels
        if size >= count:
            raise OptionError("text", "channels", channels, f"at most {count - 1}, one less than symbols and end")
        SPACE.check("text", "length", length, length * max(size, count), takes(length * count))
        # By default as many places are beyond the end as before it: texts of all lengths.
        p = torch.tensor([count - 1.0] + [1.0] * (count - 1)) if frequencies is None else _numbers(frequencies)
        if p.shape != (count,) or not (p > 0).all() or not p.isfinite().all():
            raise OptionError("text", "frequencies", frequencies, f"{count} numbers above 0, the end's first")
        self.name = "text"
        self.cut, self.frequencies = cut, p / p.sum()
        self.spec = Spec((length,), torch.int64, 0, count - 1)
        self.code = (size, length)

    # A text may be known in some places, and the others filled in.
    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        return where[:, None].expand(-1, *self.code)

    def encoder(self) -> Encoder:
        return TextEncoder(self.frequencies, self.code[0])

    def decoder(self, width: int, space: Space) -> Decoder:
        return TextDecoder(width, space, self.spec.shape[0], len(self.frequencies))

    def loss(self) -> LossTerm:
        return text_loss

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The codes weighted by the probabilities of the symbols in each place."""
        symbols = torch.arange(params.shape[1], device=params.device)[:, None].expand(-1, params.shape[2])
        p = chances(params.softmax(1).transpose(1, 2))
        return torch.einsum("bnk,ken->ben", p, encode(symbols).to(params.dtype))

    def conditioned(self, params: Tensor, x: Tensor, where: Tensor) -> Tensor:
        """A text that is known in some places goes on up to the last symbol that is known."""
        return told(params.transpose(1, 2), x, where).transpose(1, 2)

    # ---- reading ----

    def read(self, raw: Any) -> Tensor:
        """A text, a list of its symbols, or their numbers as an array ``(length,)``; the digits of a whole number are a text too.

        Raises:
            RequestError: a symbol that is not known, a text that is longer than ``length``, or what is no text.
        """
        if isinstance(raw, np.ndarray) and raw.dtype.kind == "U":
            raw = raw.tolist()
        if isinstance(raw, int | np.integer) and not isinstance(raw, bool):
            raw = str(int(raw))  # a table's column of such is no text
        if isinstance(raw, str):
            return self._placed(self.symbols.cut(raw))
        if isinstance(raw, list | tuple) and all(isinstance(one, str) for one in raw):
            return self._placed(list(raw))
        try:
            x = torch.as_tensor(raw)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected a text") from error
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool or not x.ndim:
            raise RequestError(f"found {_called(raw)}, expected a text, or the numbers of its symbols")
        x = x.long()
        self.spec.check(x[None], self.name)
        return ended(x[None])[0]

    def _placed(self, symbols: list[str]) -> Tensor:
        length = self.spec.shape[0]
        if len(symbols) > length and not self.cut:
            raise RequestError(
                f"found a text of {len(symbols)} symbols, expected at most {length}; a larger length takes it, and cut = true its beginning"
            )
        numbers = [1 + number for number in self.symbols.numbers(symbols[:length])]
        return torch.tensor(numbers + [0] * (length - len(numbers)))

    def raw(self, x: Tensor) -> Any:
        """The text up to its end. Tokens that a tokenizer would not make of their own text are a list."""
        numbers = self._until(x)
        text = self.symbols.joined(numbers)
        if isinstance(self.symbols, Tokens):
            names = [self.symbols.names[number] for number in numbers]
            return text if self.symbols.cut(text) == names else names
        return text

    def _until(self, x: Tensor) -> list[int]:
        """The numbers of the symbols up to the end."""
        return [number - 1 for number in ended(x.detach().cpu()[None])[0].tolist() if number]

    # ---- for people ----

    def show(self, x: Tensor) -> str:
        return self.symbols.joined(self._until(x))

    def metrics(self) -> Mapping[str, Metric]:
        def exact(prediction: Tensor, target: Tensor) -> Tensor:
            return (ended(prediction) == ended(target)).all(1).float()

        def error_rate(prediction: Tensor, target: Tensor) -> Tensor:
            """Of speech and handwriting: the fewest symbols to change, put in or take out, for each symbol of the truth."""
            pairs = [(self._until(a), self._until(b)) for a, b in zip(prediction, target, strict=True)]
            return torch.tensor([distance(a, b) / max(1, len(b)) for a, b in pairs], device=target.device)

        return {"exact": exact, "symbol_error_rate": error_rate}

    # ---- data ----

    @classmethod
    def proposed(cls, name: str, values: Sequence[Any]) -> Proposal | None:
        """A column of texts: by their words where these are few and come again, else by their characters."""
        texts = [value for value in values if isinstance(value, str) and value.strip()]
        named = not NAMES.isdisjoint(re.findall("[a-z]+", name.lower()))
        if len(texts) < len(values) or not texts or not (named or any(len(text.split()) > 1 for text in texts)):
            return None
        words, most = (
            sorted({word for text in texts for word in text.split()}),
            max(len(text.split()) for text in texts),
        )
        if most > 1 and len(words) <= WORDS and 4 * len(words) <= sum(len(text.split()) for text in texts):
            note, options = f"texts of up to {most} words, of {len(words)} in all", {"length": most, "words": words}
        else:
            most, alphabet = max(map(len, texts)), "".join(sorted({letter for text in texts for letter in text}))
            if most > LETTERS:
                return None
            note = f"texts of up to {most} characters, of {len(alphabet)} in all"
            options, words = {"length": most, "alphabet": alphabet}, list(alphabet)
        return Proposal(options, note, most, most * min(8, len(words)), "length, words or alphabet", named)

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """The frequencies of the end and of the symbols, over all places."""
        share = torch.bincount(samples.flatten(), minlength=len(self.frequencies)).double() / max(1, samples.numel())
        return {"frequencies": [float(f"{p:.6g}") for p in share.clamp(min=RARE).tolist()]}

    def typical(self, n: int, seed: int) -> Tensor:
        """Texts of any length, half of whose symbols are as the first one."""
        rng, length = Rng.for_rows(seed, n).of("typical"), self.spec.shape[0]
        p = self.frequencies
        first = rng.of("first").categorical(p[1:].expand(n, -1)) + 1
        same = rng.of("same").uniform(length) < 0.5
        x = rng.of("symbol").categorical(p[1:].expand(n, length, -1)) + 1
        x = torch.where(same, first[:, None], x)
        # Texts of all lengths, and so many of full length, or all so much shorter, that there are as many ends as their frequency says.
        share, u = 1 - float(p[0]), rng.of("end").uniform()
        part = torch.where(rng.of("full").uniform() < 2 * share - 1, 1.0, u) if share > 0.5 else 2 * share * u
        symbols = (part * length + rng.of("round").uniform()).floor()
        return torch.where(torch.arange(length) < symbols[:, None], x, 0)


class TextEncoder(Encoder):
    """A few numbers for each symbol, white by the symbols' frequencies: of mean 0, variance 1 and uncorrelated."""

    table: Tensor

    def __init__(self, frequencies: Tensor, size: int) -> None:
        super().__init__()
        p = frequencies.double()[:, None]
        table = torch.randn(len(p), size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        table = table - (p * table).sum(0)
        # table @ cov^(-1/2), by the factor of the covariance
        factor = torch.linalg.cholesky(table.T @ (p * table))
        table = torch.linalg.solve_triangular(factor, table.T, upper=False).T
        self.register_buffer("table", table.float().contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.table).transpose(1, 2).contiguous()


class TextDecoder(Decoder):
    """Logits ``(B, symbols, length)``."""

    def __init__(self, width: int, space: Space, length: int, symbols: int) -> None:
        super().__init__()
        self.shape = (symbols, length)
        # A space with one axis keeps places where they are; in others the head reads all of it.
        self.head: nn.Module
        if len(space.grid) == 1:
            self.head = SpatialHead(width, space, symbols, (length,))
        else:
            self.head = PooledHead(width, space, symbols * length)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features).reshape(len(features), *self.shape)

    def point(self, params: Tensor) -> Tensor:
        return ended(params.argmax(1))

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return ended(rng.categorical(params.softmax(1).transpose(1, 2)))


def text_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The nats of the symbols up to the first end, which is one of them."""
    return total(F.cross_entropy(params, target, reduction="none"), counted(target, where=where))


def distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The fewest changes, insertions and deletions that make one sequence of the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def _numbers(values: Any) -> Tensor:
    try:
        return torch.tensor(list(values), dtype=torch.float32)
    except (TypeError, ValueError):
        return torch.empty(0)


def _called(raw: Any) -> str:
    return f"an array of {raw.dtype}" if hasattr(raw, "dtype") else f"{str(raw)[:40]!r} ({type(raw).__name__})"
