"""Sequences that end early: one likelihood over all of them, whatever comes after the end."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from mmcore.modality.length import chances, counted, ended
from mmcore.modality.likelihood import total
from mmcore.rng import Rng

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
