"""Placement: the isometries, that codes stay apart, and where structure is kept."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore import RequestError, Space
from mmcore.space import place


@st.composite
def compositions(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], Space]:
    """Codes and a space with room for them, often with none to spare."""
    axes = draw(st.integers(1, 3))
    grid = tuple(draw(st.integers(1, 6)) for _ in range(axes))
    spatial = st.tuples(st.integers(1, 3), *[st.integers(1, 8)] * axes)
    codes = draw(st.lists(st.one_of(spatial, st.tuples(st.integers(1, 20))), min_size=1, max_size=5))
    total = sum(math.prod(code) for code in codes)
    return codes, Space((-(-total // math.prod(grid)) + draw(st.integers(0, 2)), *grid))


@given(compositions())
def test_placements_are_orthogonal_isometries_while_there_is_room(case: tuple[list[tuple[int, ...]], Space]) -> None:
    codes, space = case
    placement = place(codes, space)
    P = torch.cat([placement.matrix(i) for i in range(len(codes))], dim=1)
    torch.testing.assert_close(P.T @ P, torch.eye(P.shape[1], dtype=torch.float64), rtol=0, atol=1e-6)


def test_spatial_codes_keep_their_places() -> None:
    placement = place([(2, 8, 8), (1, 8, 8), (10,)], Space((4, 8, 8)))
    code = torch.arange(128.0)
    assert torch.equal((placement.matrix(0).float() @ code).reshape(4, 8, 8)[:2], code.reshape(2, 8, 8))


def test_larger_maps_share_a_place_among_channels() -> None:
    image = torch.arange(256.0).reshape(16, 16)
    z = (place([(1, 16, 16)], Space((4, 8, 8))).matrix(0).float() @ image.flatten()).reshape(4, 8, 8)
    assert set(z[:, 2, 3].tolist()) == set(image[4:6, 6:8].flatten().tolist())


def test_no_room_is_refused_with_the_mend() -> None:
    with pytest.raises(RequestError, match=r"128 elements, the codes need 128 \+ 10 = 138; give it 3 channels"):
        place([(2, 8, 8), (10,)], Space((2, 8, 8)))


def test_overlap_warns_and_stays_isometric_for_each_code() -> None:
    with pytest.warns(UserWarning, match="overlap"):
        placement = place([(1, 8, 8), (1, 8, 8), (64,)], Space((1, 8, 8)), overlap=True)
    for i in range(3):
        P = placement.matrix(i)
        torch.testing.assert_close(P.T @ P, torch.eye(64, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4, 5), (0, 4), (2, -1)])
def test_impossible_spaces_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"space: found .* expected \(C, L\)"):
        Space(shape)
