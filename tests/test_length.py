"""Sequences that end early: one likelihood over all of them, whatever comes after the end."""

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import mmcore
from mmcore import Registry
from mmcore.modality.length import chances, counted, ended, told
from mmcore.modality.likelihood import total
from mmcore.modality.mixed import Mixed, MixedDecoder
from mmcore.rng import Rng
from mmcore_scalar import ScalarModality
from mmcore_text import TextModality

SYMBOLS, LENGTH = 3, 4


def every(end: int) -> torch.Tensor:
    """All sequences that have nothing but the end after the first end, each once."""
    x = torch.tensor(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
    return x[(ended(x, end) == x).all(1)]


@pytest.mark.parametrize("end", [0, 2])
def test_the_probabilities_of_all_sequences_sum_to_one(end: int) -> None:
    logits = 2 * torch.randn(1, SYMBOLS, LENGTH, generator=torch.Generator().manual_seed(end), dtype=torch.float64)
    x = every(end)
    assert len(x) == sum(2**k for k in range(LENGTH)) + 2**LENGTH
    nats = total(F.cross_entropy(logits.expand(len(x), -1, -1), x, reduction="none"), counted(x, end))
    p = (-nats).exp()
    assert float(p.sum()) == pytest.approx(1)
    # Each place's symbols, by what all sequences say.
    want = torch.stack([(F.one_hot(x[:, n], SYMBOLS) * p[:, None]).sum(0) for n in range(LENGTH)])
    assert torch.allclose(chances(logits.softmax(1).transpose(1, 2), end)[0], want)


def test_draws_that_are_ended_follow_that_likelihood() -> None:
    p = torch.tensor([[0.3, 0.2, 0.5], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [0.2, 0.4, 0.4]], dtype=torch.float64)
    n = 40_000
    draws = ended(Rng.for_rows(3, n).categorical(p.expand(n, -1, -1)))
    x = every(0)
    nats = total(-p.log().gather(1, x.T).T, counted(x))
    share = torch.stack([(draws == row).all(1).double().mean() for row in x])
    assert float(share.sum()) == 1
    # Of 31 sequences one is off by 5 standard errors with probability 2e-5.
    assert ((share - (-nats).exp()).abs() < 5 * ((-nats).exp() / n).sqrt()).all()


def test_a_hidden_end_is_not_seen() -> None:
    x = torch.tensor([[1, 0, 0, 0]])
    assert counted(x).tolist() == [[True, True, False, False]]
    assert counted(x, where=torch.tensor([[True, False, True, True]])).tolist() == [[True, False, True, False]]
    assert counted(x, where=torch.tensor([[False] * 4])).tolist() == [[False] * 4]


@pytest.mark.parametrize("end", [0, 2])
def test_what_is_known_of_a_sequence_leaves_those_that_have_it(end: int) -> None:
    """Of every sequence and every choice of known places: as often as among the sequences that agree, where the known places say nothing."""
    logits = 2 * torch.randn(1, LENGTH, SYMBOLS, generator=torch.Generator().manual_seed(end), dtype=torch.float64)
    x = every(end)
    for places in itertools.product([False, True], repeat=LENGTH):
        where = torch.tensor(places)
        for truth in x:
            agree = x[((x == truth) | ~where).all(1)]
            free = counted(agree, end) & ~where
            share = (-total(F.cross_entropy(logits.mT.expand(len(agree), -1, -1), agree, reduction="none"), free)).exp()
            given = told(logits, truth[None], where[None], end)
            p = torch.stack([F.one_hot(agree[:, n], SYMBOLS) * (share / share.sum())[:, None] for n in range(LENGTH)])
            torch.testing.assert_close(chances(given.softmax(-1), end)[0], p.sum(1))


def sure(m: TextModality, text: str) -> Any:
    """A decoder that says a text with certainty; END in every place after it, and wherever it has a dot."""

    class Sure(type(m.decoder(1, mmcore.Space((1, 1))))):  # type: ignore[misc]
        def forward(self, features: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            said = torch.tensor([0 if one == "." else 1 + "ab".index(one) for one in text])
            return (100.0 * F.one_hot(said, 3).T).expand(len(features), -1, -1)

    return lambda width, space: Sure(width, space, m.spec.shape[0], 3)


@pytest.mark.parametrize("conditioning", ["roles", "posterior"])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    ("given", "known", "said", "answer"),
    [
        ("a", "#...", ".bb.", "abb"),  # what a known place says does not end the text
        ("abbb", "..##", "ab..", "abbb"),
        ("a", ".#..", "babb", "b"),  # nor does it go on after an end that is known
        ("abab", "...#", "b.aa", "b?ab"),  # before a symbol that is known there is no end
    ],
)
def test_a_text_is_completed_whatever_is_said_of_its_known_places(
    alone: bool, conditioning: str, given: str, known: str, said: str, answer: str, registry: Registry
) -> None:
    text = TextModality(alphabet="ab", length=4)
    text.decoder = sure(text, said)  # type: ignore[method-assign]
    m = text if alone else Mixed("text", {"age": ScalarModality(), "text": text})
    where, x = torch.tensor([one == "#" for one in known]), text.read(given)
    if not alone:
        where, x = torch.cat([torch.tensor([False]), where]), torch.cat([torch.zeros(1), x.float()])
    other = registry.modality("image", channels=1, size=2)
    model = mmcore.compose([m, other], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
    asked = {"given": {"text": x[None]}, "where": {"text": where[None]}, "conditioning": conditioning}
    found = mmcore.sample(model, 1, steps=2, **asked)["text"][0]
    shown = text.show(found if alone else found[1:].long())
    assert len(shown) == len(answer)
    assert all(one in ("?", other) for one, other in zip(answer, shown, strict=True))


def test_parts_of_several_in_one_are_told_as_alone() -> None:
    text = TextModality(alphabet="ab", length=4)
    m = Mixed("row", {"age": ScalarModality(), "text": text})
    decoder = m.decoder(4, mmcore.Space((2, 4)))
    assert isinstance(decoder, MixedDecoder)
    params, x = torch.randn(5, 2 + 12, generator=torch.Generator().manual_seed(0)), m.typical(5, 0)
    where = Rng.for_rows(1, 5).uniform(5) < 0.5
    age, own = m.params(m.conditioned(params, x, where))
    assert torch.equal(age, m.params(params)[0])
    assert torch.equal(own, text.conditioned(m.params(params)[1], x[:, 1:].long(), where[:, 1:]))
