"""What is asked by row: the answer does not depend on how many rows are computed at once, whatever differs from row to row."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mmcore
from mmcore import JointModel, Registry, RequestError
from tests.double import double, small  # noqa: F401

N = 9


@pytest.fixture(scope="module", params=["shared", "separate", "grouped"])
def model(request: pytest.FixtureRequest, registry: Registry) -> JointModel:
    layout: Any = [["a", "image"], ["label"]] if request.param == "grouped" else request.param
    return small(registry, layout)


def values(model: JointModel) -> dict[str, Tensor]:
    drawn = {m.name: m.typical(N, 3) for m in model.modalities}
    return {name: x.double() if x.is_floating_point() else x for name, x in drawn.items()}


def rows() -> st.SearchStrategy[Tensor]:
    return st.lists(st.booleans(), min_size=N, max_size=N).map(torch.tensor)


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """What may differ from row to row: what is given, where, what is absent, what is edited."""
    asked: dict[str, Any] = {"given": [], "where": {}, "absent": {}}
    for name in ("a", "label", "image"):
        how = draw(st.sampled_from(["free", "given", "some rows", "absent rows", "in part"]))
        if how in ("given", "some rows", "in part"):
            asked["given"].append(name)
        if how == "some rows":
            asked["where"][name] = draw(rows())
        if how == "in part" and name == "image":
            asked["where"][name] = draw(rows())[:, None, None, None] & (torch.arange(4) < 2).expand(N, 1, 4, 4)
        if how == "absent rows":
            asked["absent"][name] = draw(rows())
    asked["sampler"] = draw(st.sampled_from(["ddim", "ancestral", "2m", "heun"]))
    asked["guided"] = draw(st.booleans())
    asked["edited"] = draw(st.booleans())
    asked["draw"] = draw(st.booleans())
    return asked


def ask(model: JointModel, asked: dict[str, Any], batch_size: int) -> dict[str, Tensor]:
    x = values(model)
    options = {key: asked[key] for key in ("where", "absent", "sampler", "draw")}
    if asked["guided"] and asked["given"]:
        options["guidance"] = {asked["given"][0]: 1.5}
    if asked["edited"]:
        options |= {"start": x, "strength": 0.7}
    given = {name: x[name] for name in asked["given"]}
    return mmcore.sample(model, N, given=given, steps=3, batch_size=batch_size, seed=4, **options)


def answer(model: JointModel, asked: dict[str, Any], batch_size: int) -> dict[str, Tensor] | str:
    """The answer, or the words of the refusal."""
    try:
        return ask(model, asked, batch_size)
    except RequestError as refusal:
        return str(refusal)


@settings(deadline=None, max_examples=60)
@given(questions())
def test_the_answer_is_the_same_in_any_batches(model: JointModel, asked: dict[str, Any]) -> None:
    whole = answer(model, asked, 500)
    for size in (1, 7):
        parts = answer(model, asked, size)
        if isinstance(whole, str) or isinstance(parts, str):
            assert parts == whole
            continue
        assert parts.keys() == whole.keys()
        for name, x in whole.items():
            torch.testing.assert_close(parts[name], x, rtol=1e-9, atol=1e-9)


def test_rows_absent_in_one_batch_alone_are_there_in_the_answer(model: JointModel) -> None:
    """All rows of the first batch lack the image, none of the second; and the other way round."""
    for gone in (torch.arange(N) < 5, torch.arange(N) >= 5):
        answer = mmcore.sample(model, N, absent={"image": gone}, steps=2, batch_size=5)
        assert answer["image"].shape == (N, 1, 4, 4)
        placeholder = model.variable("image").spec.placeholder(1).double()
        assert (answer["image"][gone] == placeholder).all()
        assert (answer["image"][~gone] != placeholder).any(3).any(2).any(1).all()


def test_what_is_absent_everywhere_is_left_out(model: JointModel) -> None:
    for absent in (["image"], {"image": torch.ones(N, dtype=torch.bool)}):
        assert mmcore.sample(model, N, absent=absent, steps=2, batch_size=4).keys() == {"a", "label"}


def test_what_is_absent_and_given_nowhere_is_left_out(model: JointModel) -> None:
    """Not a placeholder in the place of an answer."""
    given, nowhere = {"label": torch.tensor([1, 2, 3])}, torch.zeros(3, dtype=torch.bool)
    for absent in (["label"], {"label": ~nowhere}):
        found = mmcore.sample(model, 3, given=given, where={"label": nowhere}, absent=absent, steps=2)
        assert sorted(found) == ["a", "image"]
    with pytest.raises(RequestError, match="label both given and absent in row 1"):
        mmcore.sample(model, 3, given=given, where={"label": torch.tensor([False, True, False])}, absent=["label"])
