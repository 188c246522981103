"""Blocks of a space: every closed form is that of the block's own process, on the block's own channels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore.process import Blocks, Process, Schedule, schedule

F64 = torch.float64


@st.composite
def cases(draw):
    """Blocks with unlike schedules, modalities in any order, and a batch with a timestep per block."""
    T, K, rows = draw(st.integers(2, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    counts = [draw(st.integers(0 if K > 1 else 1, 3)) for _ in range(K)]
    order = rng.permutation(sum(counts)).tolist()
    members = [[order.pop() for _ in range(count)] for count in counts]
    schedules = [
        Schedule.from_steps(rng.uniform(0.1, 0.99, T), torch.as_tensor(rng.uniform(0, 1, (T, count))))
        for count in counts
    ]
    channels = [draw(st.integers(1, 3)) for _ in range(K)]
    grid = draw(st.sampled_from([(2,), (2, 3), (1, 2, 2)]))
    process = Blocks(schedules, members, channels)
    # Steps r < s < t in each block of each row.
    times = np.stack([rng.permuted(np.arange(T + 1))[:3] for _ in range(rows * K)])
    times = torch.as_tensor(np.sort(times, axis=1)).reshape(rows, K, 3)
    z = torch.as_tensor(rng.normal(size=(rows, sum(channels), *grid)))
    encodings = torch.zeros(rows, sum(counts), *z.shape[1:], dtype=F64)
    ranges = [slice(sum(channels[:b]), sum(channels[: b + 1])) for b in range(K)]
    for block, part in zip(members, ranges, strict=True):
        for i in block:
            encodings[:, i, part] = torch.as_tensor(rng.normal(size=(rows, *z[:, part].shape[1:])))
    return process, ranges, times, z, encodings


def three(process, z, encodings, s, t):
    return (
        process.marginal(encodings, t),
        process.transition(z, encodings, s, t),
        process.posterior(z, encodings, s, t),
    )


@given(cases())
def test_every_closed_form_is_the_blocks_own(case):
    process, ranges, times, z, encodings = case
    s, t = times[:, :, 1], times[:, :, 2]
    whole = three(process, z, encodings, s, t)
    for b, part in enumerate(ranges):
        alone = Process(process.schedules[b])
        own = three(alone, z[:, part], encodings[:, list(process.members[b])][:, :, part], s[:, b], t[:, b])
        for q, r in zip(whole, own, strict=True):
            torch.testing.assert_close(q.mean[:, part], r.mean, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(
                q.variance.expand_as(z)[:, part], r.variance.expand_as(z[:, part]), rtol=1e-13, atol=0
            )
        level, jump, snr = process.level(t), process.jump(s, t), process.half_log_snr(t)
        assert torch.equal(level.W[:, list(process.members[b])], alone.level(t[:, b]).W)
        for name in ("root_A", "sigma"):
            assert torch.equal(getattr(level, name)[:, b], getattr(alone.level(t[:, b]), name))
        for name in ("a", "v", "k", "beta"):
            assert torch.equal(getattr(jump, name)[:, b], getattr(alone.jump(s[:, b], t[:, b]), name))
        torch.testing.assert_close(snr[:, b], alone.half_log_snr(t[:, b]), rtol=1e-13, atol=0)


@given(cases())
def test_chapman_kolmogorov_in_every_block_at_once(case):
    """Jumping ``r → s`` and then ``s → t`` is jumping ``r → t``, with other steps in each block."""
    process, _, times, z, encodings = case
    r, s, t = times.unbind(2)
    first, direct = process.transition(z, encodings, r, s), process.transition(z, encodings, r, t)
    second = process.transition(first.mean, encodings, s, t)
    torch.testing.assert_close(second.mean, direct.mean, rtol=1e-11, atol=1e-12)
    a = process.widen(process.jump(s, t).a, z)
    torch.testing.assert_close(
        (a.square() * first.variance + second.variance).expand_as(z), direct.variance.expand_as(z), rtol=1e-11, atol=0
    )


@given(cases())
def test_widening_reaches_just_the_blocks_channels(case):
    process, ranges, times, z, _ = case
    coefficient = torch.arange(1.0, 1 + times[:, :, 0].numel()).reshape(times.shape[:2])
    wide = process.widen(coefficient, z).expand_as(z)
    assert wide.dtype == z.dtype
    for row in range(len(z)):
        for b, part in enumerate(ranges):
            assert (wide[row, part] == coefficient[row, b]).all()


@given(cases(), st.integers(1, 2))
def test_one_integer_is_every_blocks_timestep(case, t):
    process, _, times, z, encodings = case
    everywhere = torch.full(times.shape[:2], t)
    for q, r in zip(
        three(process, z, encodings, 0, t), three(process, z, encodings, everywhere * 0, everywhere), strict=True
    ):
        assert torch.equal(q.mean, r.mean)
        assert torch.equal(q.variance.expand_as(q.mean), r.variance.expand_as(r.mean))


def test_one_block_is_the_process_itself():
    """The article's case costs nothing: the same numbers as without blocks, bit for bit."""
    tables = schedule.cosine(50, 3)
    z, encodings = torch.randn(4, 2, 3), torch.randn(4, 3, 2, 3)
    s, t = torch.tensor([0, 3, 20, 49]), torch.tensor([1, 40, 21, 50])
    blocks = three(Blocks([tables], [[0, 1, 2]], [2]), z, encodings, s[:, None], t[:, None])
    for q, r in zip(blocks, three(Process(tables), z, encodings, s, t), strict=True):
        assert torch.equal(q.mean, r.mean)
        assert torch.equal(q.variance, r.variance)


@pytest.mark.parametrize(
    ("counts", "members", "channels", "match"),
    [
        ([], [], [], "found 0 schedules"),
        ([1, 1], [[0], [0]], [1, 1], r"members \[\[0\], \[0\]\] .* every modality in exactly one block"),
        ([1, 1], [[0], [2]], [1, 1], "every modality in exactly one block"),
        ([1, 1], [[0], [1]], [1], r"channels \[1\]"),
        ([2, 1], [[0], [1]], [1, 1], "block 0 has a schedule of 5 steps and 2 modalities, expected 5 steps and 1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(counts, members, channels, match):
    with pytest.raises(ValueError, match=match):
        Blocks([schedule.cosine(5, n) for n in counts], members, channels)


def test_schedules_of_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match="block 1 has a schedule of 6 steps and 1 modalities, expected 5 steps"):
        Blocks([schedule.cosine(5, 1), schedule.cosine(6, 1)], [[0], [1]], [1, 1])


@pytest.mark.parametrize(
    ("s", "t", "match"),
    [
        (torch.zeros(3, dtype=torch.int64), 2, r"s has shape \(3,\), expected \(B, K\) = \(3, 2\)"),
        (0, torch.tensor([[1, 2], [1, 6], [1, 1]]), r"t = \[1, 6\] in row 1, expected 0 … T = 5"),
        (1, torch.tensor([[2, 2], [2, 2], [1, 2]]), r"s = \[1, 1\] and t = \[1, 2\] in row 2, expected s < t"),
    ],
)
def test_timesteps_that_do_not_fit_are_refused(s, t, match):
    process = Blocks([schedule.cosine(5, 1)] * 2, [[0], [1]], [1, 2])
    with pytest.raises(ValueError, match=match):
        process.posterior(torch.zeros(3, 3, 2), torch.zeros(3, 2, 3, 2), s, t)
