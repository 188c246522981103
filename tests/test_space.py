"""Placement: the isometries, that codes stay apart, and where structure is kept."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore import RequestError, Space
from mmcore.space import Layout, place


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
    with pytest.raises(
        RequestError, match=r"at least 128 \+ 10 = 138 elements for the codes, it has 128; give it 3 channels"
    ):
        place([(2, 8, 8), (10,)], Space((2, 8, 8)))


def test_overlap_warns_and_stays_isometric_for_each_code() -> None:
    with pytest.warns(UserWarning, match="overlap"):
        placement = place([(1, 8, 8), (1, 8, 8), (64,)], Space((1, 8, 8)), overlap=True)
    for i in range(3):
        P = placement.matrix(i)
        torch.testing.assert_close(P.T @ P, torch.eye(64, dtype=torch.float64))
        # No two lie along the same directions: their signs are orthogonal.
        for j in range(i):
            assert (P * placement.matrix(j)).sum() == 0


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4, 5), (0, 4), (2, -1)])
def test_impossible_spaces_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"space = .* expected \(C, L\)"):
        Space(shape)


# ---- layouts ----


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Names and a partition of them, both in any order."""
    names = [f"m{i}" for i in range(draw(st.integers(1, 7)))]
    block = [draw(st.integers(0, len(names) - 1)) for _ in names]
    shuffled = draw(st.permutations(names))
    groups = [[name for name, b in zip(shuffled, block, strict=True) if b == k] for k in range(len(names))]
    return names, [group for group in groups if group]


@given(layouts())
def test_a_layout_has_each_modality_in_exactly_one_block(case: tuple[list[str], list[list[str]]]) -> None:
    names, groups = case
    members = Layout.groups(groups, names)
    assert [[names[i] for i in block] for block in members] == groups
    assert Layout.groups("shared", names) == (tuple(range(len(names))),)
    assert Layout.groups("separate", names) == tuple((i,) for i in range(len(names)))
    assert Layout.groups([group[0] if len(group) == 1 else group for group in groups], names) == members


@given(layouts(), st.data())
def test_a_layout_that_is_no_partition_is_refused(case: tuple[list[str], list[list[str]]], data: st.DataObject) -> None:
    names, groups = case
    name = data.draw(st.sampled_from(names))
    doubled = [*groups, [name]]
    with pytest.raises(RequestError, match=f"layout = .*, expected every modality once, not '{name}' 2 times"):
        Layout.groups(doubled, names)
    with pytest.raises(RequestError, match=f"layout = .*, expected every modality once, it leaves out {name}"):
        Layout.groups([[n for n in group if n != name] for group in groups], names)
    with pytest.raises(RequestError, match=r"layout = .*, expected names among m0.*, not 'other'"):
        Layout.groups([*groups, ["other"]], names)
    with pytest.raises(RequestError, match=r"layout = .*, expected at least one modality in each group"):
        Layout.groups([*groups, []], names)


@given(compositions(), st.data())
def test_codes_of_a_layout_stay_in_their_blocks(case: tuple[list[tuple[int, ...]], Space], data: st.DataObject) -> None:
    """Orthogonal isometries as without a layout, and nothing of a code outside its block's channels."""
    codes, space = case
    block = [data.draw(st.integers(0, len(codes) - 1)) for _ in codes]
    members = tuple(tuple(i for i, b in enumerate(block) if b == k) for k in sorted(set(block)))
    places = math.prod(space.grid)
    need = sum(-(-sum(math.prod(codes[i]) for i in group) // places) for group in members)
    spare = data.draw(st.integers(0, 2))
    space = Space((need + spare, *space.grid))
    layout = Layout.fit(members, codes, space)
    assert sum(layout.channels) == space.shape[0]
    placement = place(codes, space, layout=layout)
    P = [placement.matrix(i) for i in range(len(codes))]
    every = torch.cat(P, dim=1)
    torch.testing.assert_close(every.T @ every, torch.eye(every.shape[1], dtype=torch.float64), rtol=0, atol=1e-6)
    first = 0
    for group, channels in zip(layout.members, layout.channels, strict=True):
        inside = torch.zeros(space.shape[0], places, dtype=torch.bool)
        inside[first : first + channels] = True
        for i in group:
            assert not P[i][~inside.flatten()].any()
        first += channels
    if len(members) > 1:
        with pytest.raises(
            RequestError, match=rf"at least .* = {need} channels for its blocks; give it {need} channels"
        ):
            Layout.fit(members, codes, Space((need - 1, *space.grid)))
    assert Space.for_codes(codes, members).shape[0] == sum(
        -(-sum(math.prod(codes[i]) for i in group) // math.prod(Space.for_codes(codes, members).grid))
        for group in members
    )
