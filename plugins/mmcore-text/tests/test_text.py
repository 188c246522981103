"""Texts: what is read, what is refused, and the likelihood and the code against sums over all texts."""

import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import OptionError, RequestError
from mmcore.config import configured
from mmcore.config.guess import configuration
from mmcore.modality.length import ended
from mmcore.runs.run import train
from mmcore_text import TextModality
from mmcore_text.modality import distance

WORDS = ["one", "two", "three", "and"]
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2, ",": 3}, "unk_token": "[UNK]"},
}  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    pytest.importorskip("tokenizers", reason="the extra mmcore-text[tokenizer] is not installed")
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("options", "raw", "numbers", "text"),
    [
        ({"alphabet": "abc"}, "cab", [3, 1, 2, 0], "cab"),
        ({"alphabet": "abc"}, "", [0, 0, 0, 0], ""),
        ({"alphabet": "0123"}, 301, [4, 1, 2, 0], "301"),
        ({"words": WORDS}, " one  and\ntwo", [1, 4, 2, 0], "one and two"),
        ({"words": WORDS}, ["two", "two"], [2, 2, 0, 0], "two two"),
        ({"words": WORDS}, np.array([3, 0, 0, 0]), [3, 0, 0, 0], "three"),
        ({"words": WORDS, "cut": True}, "one two three and one", [1, 2, 3, 4], "one two three and"),
    ],
)
def test_texts_become_symbols_and_texts_again(options: dict[str, Any], raw: Any, numbers: list[int], text: str) -> None:
    m = TextModality(4, **options)
    assert m.read(raw).tolist() == numbers
    assert m.show(m.read(raw)) == m.raw(m.read(raw)) == text
    assert m.read(m.raw(m.read(raw))).tolist() == numbers


@pytest.mark.parametrize(
    ("options", "raw", "match"),
    [
        ({"alphabet": "abc"}, "aß", "found 'ß', which is none of the symbols 'a' 'b' 'c'"),
        ({"words": WORDS}, "one, two", "found 'one,', which is none of the symbols 'one' 'two' 'three' 'and'"),
        ({"alphabet": "abc"}, "abcab", "found a text of 5 symbols, expected at most 4; a larger length takes it"),
        ({"alphabet": "abc"}, 1.5, r"found '1.5' \(float\), expected a text"),
        ({"alphabet": "abc"}, True, r"found 'True' \(bool\), expected a text"),
        ({"alphabet": "abc"}, np.array([9, 0, 0, 0]), "found 9 in row 0, expected 0 … 3"),
        ({"alphabet": "abc"}, np.array([1, 0]), r"found shape \(1, 2\), expected \(B, 4\)"),
    ],
)
def test_wrong_texts_are_refused_in_a_line(options: dict[str, Any], raw: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match) as refused:
        TextModality(4, **options).read(raw)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"length": 0},
        {"alphabet": "aa"},
        {"words": ["one", "one"]},
        {"words": ["two words"]},
        {"channels": 99},
        {"cut": 1},
        {"frequencies": [1, 2]},
        {"alphabet": "ab", "words": ["a"]},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as refused:
        TextModality(**options)
    assert refused.value.option in options


def every(m: TextModality) -> torch.Tensor:
    """All texts."""
    count, length = len(m.frequencies), m.spec.shape[0]
    x = torch.tensor(list(itertools.product(range(count), repeat=length)))
    return x[(ended(x) == x).all(1)]


def test_likelihood_and_expected_code_are_sums_over_all_texts() -> None:
    m = TextModality(3, alphabet="abc", frequencies=[0.4, 0.3, 0.2, 0.1])
    x = every(m)
    assert len(x) == 1 + 3 + 9 + 27
    params = 2 * torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    p = (-m.loss()(params.expand(len(x), -1, -1), x)).exp()
    assert float(p.sum()) == pytest.approx(1)
    encode = m.encoder()
    want = (p[:, None, None] * encode(x)).sum(0)
    torch.testing.assert_close(m.expected_code(params, encode, None)[0], want)  # type: ignore[arg-type]


@pytest.mark.parametrize("frequencies", [[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01]])
def test_the_code_is_white_by_the_frequencies(frequencies: list[float]) -> None:
    m = TextModality(1, alphabet="abc", frequencies=frequencies)
    codes, p = m.encoder()(torch.arange(4)[:, None])[..., 0], torch.tensor(frequencies)
    torch.testing.assert_close(p @ codes, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(codes.T @ (p[:, None] * codes), torch.eye(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("a", "b", "want"), [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("ab", "ab", 0)]
)
def test_edits_are_counted(a: str, b: str, want: int) -> None:
    assert distance([*map(ord, a)], [*map(ord, b)]) == distance([*map(ord, b)], [*map(ord, a)]) == want


def test_error_rate_is_of_the_truths_length() -> None:
    m = TextModality(4, words=WORDS)
    x = torch.stack([m.read("one two"), m.read("one two"), m.read("")])
    y = torch.stack([m.read("one two"), m.read("two"), m.read("one")])
    assert m.metrics()["symbol_error_rate"](x, y).tolist() == [0, 1, 1]
    assert m.metrics()["exact"](x, y).tolist() == [1, 0, 0]


def test_a_tokenizer_of_a_local_file_goes_with_the_model(tokenizer: Path, tmp_path: Path) -> None:
    registry = mmcore.discover()
    m = registry.modality("text", length=4, tokenizer=str(tokenizer))
    assert m.read("One, two").tolist() == [2, 4, 3, 0]
    # The words that it does not know are its own unknown token.
    assert m.show(m.read("one six")) == "one [UNK]"
    mmcore.save(mmcore.compose([m], backbone="mlp", registry=registry), tmp_path / "model")
    tokenizer.unlink()
    loaded = mmcore.load(tmp_path / "model", registry=registry).modalities[0]
    assert loaded.read("One, two").tolist() == [2, 4, 3, 0]
    record = (tmp_path / "model" / "config.json").read_text()
    assert str(tmp_path) not in record
    # A folder from elsewhere that names a file is not followed to it.
    config = json.loads(record)
    config["modalities"][0]["options"]["tokenizer"] = "/etc/hostname"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="names a path, which is never followed"):
        mmcore.load(tmp_path / "model", registry=registry)


def test_tokens_that_no_text_has_stay_a_list(tokenizer: Path) -> None:
    m = TextModality(4, tokenizer=str(tokenizer))
    x = torch.tensor([1, 1, 0, 0])  # two unknown words: "[UNK] [UNK]" would be cut at the brackets
    assert m.read(m.raw(x)).tolist() == x.tolist()


@pytest.mark.parametrize("text", ["", "{}", "not JSON", '{"version": "1.0"}'])
def test_what_is_no_tokenizer_is_told_in_a_line(tokenizer: Path, text: str) -> None:
    tokenizer.write_text(text)
    with pytest.raises(RequestError, match=r"tokenizer cannot be read: .*expected a tokenizer\.json") as refused:
        TextModality(tokenizer=str(tokenizer))
    assert "\n" not in str(refused.value)
    with pytest.raises(RequestError, match=r"/no/such\.json cannot be read: No such file"):
        TextModality(tokenizer="/no/such.json")


CAPTIONS = [f"{a} and {b}" for a in ("one", "two", "three") for b in ("two", "three")] * 3


@pytest.mark.parametrize(
    ("name", "values", "want"),
    [
        ("caption", CAPTIONS, {"length": 3, "words": ["and", "one", "three", "two"]}),
        ("caption", ["abba", "cab"], {"length": 4, "alphabet": "abc"}),
        ("species", ["cat", "dog"] * 9, None),
        ("title", ["x" * 65], None),
        ("caption", [1, "two"], None),
    ],
)
def test_columns_of_texts_are_known(name: str, values: list[Any], want: dict[str, Any] | None) -> None:
    found = TextModality.proposed(name, values)
    assert (None if found is None else found.options) == want
    if found is not None and want is not None:
        m = TextModality(**want)
        assert [m.raw(m.read(value)) for value in values] == values
        assert (found.numbers, found.codes) == (np.prod(m.spec.shape), np.prod(m.code))


def test_init_writes_what_a_training_takes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("caption,kind\n" + "".join(f"{text},{len(text)}\n" for text in CAPTIONS))
    guess = configuration(tmp_path / "rows.csv", mmcore.discover(), out=str(tmp_path / "run"), assume=["kind=none"])
    assert 'plugin = "text"\nlength = 3\nwords = ["and", "one", "three", "two"]\n' in guess.text
    assert "caption: text, texts of up to 3 words, of 4 in all; by the name caption; to change: length" in "\n".join(
        guess.said
    )
    small = {
        "training": {"steps": 2, "batch_size": 4},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
    }
    train(configured(tomllib.loads(guess.text) | small, registry=mmcore.discover()), quiet=True)
    answers = json.loads((tmp_path / "run/samples/samples.json").read_text())["answers"]["caption"]
    assert {word for text in answers for word in text.split()} <= {"and", "one", "three", "two"}
