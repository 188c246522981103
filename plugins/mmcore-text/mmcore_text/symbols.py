"""Texts as symbols and back: characters of an alphabet, words of a list, or the tokens of a local tokenizer."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence

from mmcore import OptionError, RequestError
from mmcore.modality.pretrained import text_of


class Symbols(ABC):
    """The symbols of texts, numbered from 0.

    Attributes:
        names: of the symbols, all different.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.places = {name: number for number, name in enumerate(self.names)}

    @abstractmethod
    def cut(self, text: str) -> list[str]:
        """The symbols of a text, known or not."""

    @abstractmethod
    def joined(self, numbers: Sequence[int]) -> str:
        """The text of symbols."""

    def numbers(self, symbols: Sequence[str]) -> list[int]:
        """Symbols by their numbers.

        Raises:
            RequestError: one that is not among them.
        """
        for one in symbols:
            if one not in self.places:
                some = " ".join(map(repr, self.names[:12])) + (
                    f" … ({len(self.names)} in all)" if len(self.names) > 12 else ""
                )
                raise RequestError(f"found {one!r}, which is none of the symbols {some}")
        return [self.places[one] for one in symbols]


class Characters(Symbols):
    """The characters of an alphabet."""

    def cut(self, text: str) -> list[str]:
        return list(text)

    def joined(self, numbers: Sequence[int]) -> str:
        return "".join(self.names[number] for number in numbers)


class Words(Symbols):
    """Words between spaces, or other white space, which is read as one space."""

    def cut(self, text: str) -> list[str]:
        return text.split()

    def joined(self, numbers: Sequence[int]) -> str:
        return " ".join(self.names[number] for number in numbers)


class Tokens(Symbols):
    """The tokens of a tokenizer of Hugging Face's library, without those that it adds at the ends.

    Args:
        text: its file, ``tokenizer.json``.

    Attributes:
        text: likewise.

    Raises:
        RequestError: the library is missing, or the text is no tokenizer.
    """

    def __init__(self, text: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise RequestError("text: a tokenizer needs the library: pip install 'mmcore-text[tokenizer]'") from error
        try:
            # What does not parse is told of here: the library's own words for it are of its inside.
            json.loads(text)
            self.tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library has no errors of its own
            first = (str(error).splitlines() or [""])[0][:200]
            raise RequestError(f"text: the tokenizer cannot be read: {first}; expected a tokenizer.json") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.text = text
        vocabulary = self.tokenizer.get_vocab()
        names = sorted(vocabulary, key=lambda name: vocabulary[name])
        if [vocabulary[name] for name in names] != list(range(len(names))) or len(names) < 2:
            raise RequestError("text: the tokenizer's numbers are not 0, 1, 2 …, expected a whole vocabulary")
        super().__init__(names)

    def cut(self, text: str) -> list[str]:
        return self.tokenizer.encode(text, add_special_tokens=False).tokens

    def joined(self, numbers: Sequence[int]) -> str:
        return self.tokenizer.decode(list(numbers), skip_special_tokens=False)


def symbols_of(alphabet: str | None, words: Sequence[str] | None, tokenizer: str | None) -> Symbols:
    """The symbols that the options say; small letters and the space where they say none.

    Raises:
        OptionError: symbols that are not different or no words, or several of the options.
        RequestError: a tokenizer's file that cannot be read.
    """
    given = [
        name
        for name, value in (("alphabet", alphabet), ("words", words), ("tokenizer", tokenizer))
        if value is not None
    ]
    if len(given) > 1:
        raise OptionError("text", given[0], expected=f"one of alphabet, words and tokenizer, not {' and '.join(given)}", beside=tuple(given[1:]))  # fmt: skip
    if tokenizer is not None:
        return Tokens(text_of(tokenizer, "tokenizer"))
    if words is not None:
        sound = isinstance(words, list | tuple) and all(
            isinstance(word, str) and word.split() == [word] for word in words
        )
        if not sound or len(set(words)) != len(words) or not words:
            raise OptionError("text", "words", words, "different words, each without white space")
        return Words(words)
    alphabet = "abcdefghijklmnopqrstuvwxyz " if alphabet is None else alphabet
    if not isinstance(alphabet, str) or not alphabet or len(set(alphabet)) != len(alphabet):
        raise OptionError("text", "alphabet", alphabet, "different characters")
    return Characters(alphabet)
