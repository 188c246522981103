"""Draws to look at: what they say together, where they differ, and nothing of a plugin's text as markup."""

import re

import pytest
import torch
from torch import Tensor

from mmcore import Registry
from mmcore.files import Encoded
from mmcore.play import markup
from mmcore.play.answers import shown
from mmcore.testing.reference import Reference


def test_shares_of_classes_and_the_truth(registry: Registry) -> None:
    m = registry.modality("label", classes=4, names=["a", "b", "<i>", "{{d}}"])
    found = shown(m, torch.tensor([2, 2, 2, 1, 3]), torch.tensor(2))
    assert found.bars == [("<i>", 0.6), ("b", 0.2), ("{{d}}", 0.2)]
    assert (found.together, found.truth, found.scores) == ("<i>", "<i>", [("accuracy", 1.0)])
    page = markup.answers([found], 1.0, 5)
    assert "<i>" not in page.replace('<i style="', "")
    assert "{{" not in page
    assert "60%" in page


def test_a_map_is_white_where_the_draws_agree(registry: Registry) -> None:
    m = registry.modality("mask", size=4)
    draws = torch.zeros(4, 4, 4, dtype=torch.int64)
    draws[:3, 0, 0] = 1
    draws[:, 1, 1] = 1
    found = shown(m, draws)
    assert found.map is not None
    assert (found.map.title, found.map.high) == ("draws that disagree", "25%")
    coloured = [(x, y) for x in range(4) for y in range(4) if found.map.picture.getpixel((x, y)) != (255, 255, 255)]
    assert coloured == [(0, 0)]


@pytest.mark.parametrize(("apart", "told"), [(2.0, "71%"), (0.1, "3.5%"), (0.004, "0.14%"), (0.0, "0%")])
def test_the_deviation_of_pictures_is_told_of_their_range(apart: float, told: str, registry: Registry) -> None:
    m = registry.modality("image", channels=1, size=2)
    draws = torch.zeros(2, 1, 2, 2)
    draws[:, 0, 0, 0] = torch.tensor([-1.0, apart - 1.0])
    found = shown(m, draws)
    assert found.map is not None
    # The deviation of -1 and 1 is √2, of a range of 2. However small it is, the colours go from 0 to it.
    assert found.map.high == f"{told} of the range"


def test_numbers_have_an_interval_and_a_dot_each(registry: Registry) -> None:
    m = registry.modality("scalar", mean=0, std=1)
    found = shown(m, torch.linspace(-1, 1, 21), torch.tensor(0.5))
    assert "80 % of the draws" in found.title
    page = markup.answers([found], 1.0, 21)
    assert len(re.findall("<circle", page)) == 21


class Loud(Reference):
    """Is heard."""

    def heard(self, x: Tensor) -> Encoded:
        return Encoded(b"RIFF", ".wav")


def test_what_is_heard_can_be_played() -> None:
    found = shown(Loud(), torch.zeros(6, 3))
    assert list(found.sounds) == [b"RIFF"] * 4
    assert markup.answers([found], 1.0, 6).count("<audio") == 4


@pytest.mark.parametrize("text", ["<script>", "${alert(1)}", "{{x}}", "`x`", "&<>\"'"])
def test_nothing_of_a_text_is_markup_or_a_template(text: str) -> None:
    told = markup.message(text)
    assert not set(re.sub(r"&#?\w+;", "", told.partition('">')[2].removesuffix("</p>"))) & set("<>${}`\"'")
