"""A small joint model of a picture, a label and a text: what it answers, against Bayes."""

import pytest
import torch

import mmcore
from mmcore import JointModel, Rng, RoleMix
from mmcore.testing.small import trained

TEXTS = ("a", "ab", "bb", "")
SHARES = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.3, 0.5]])
"""Of each text in each of two classes, which are equally frequent."""
BRIGHT = torch.tensor([-0.5, 0.5])
"""The mean of a class's pixels; one deviation is 0.1."""
N = 2000


@pytest.fixture(scope="module")
def model() -> JointModel:
    registry = mmcore.discover()
    text = registry.modality("text", length=2, alphabet="ab")
    rng = Rng.for_rows(0, 20_000).of("data")
    label = rng.of("label").integers(0, 2)
    texts = torch.stack([text.read(one) for one in TEXTS])[rng.of("text").categorical(SHARES[label])]
    image = BRIGHT[label, None, None, None] + 0.1 * rng.of("image").normal(1, 2, 2)
    parts = [
        registry.modality("image", channels=1, size=2, mean=0.0, std=0.5),
        registry.modality("label", classes=2),
        registry.modality("text", length=2, alphabet="ab", **text.measured(texts)),
    ]
    values = {"image": image.clamp(-1, 1), "label": label, "text": texts}
    return trained(parts, values, steps=2000, roles=RoleMix(joint=0.25, single=0.75, alone=0, partial=0.7))


def shares(model: JointModel, x: torch.Tensor) -> torch.Tensor:
    texts = [model.modalities[2].show(one) for one in x]
    return torch.tensor([texts.count(one) / len(texts) for one in TEXTS])


@pytest.mark.parametrize("label", [0, 1])
def test_texts_of_a_class_and_of_its_pictures_are_as_frequent_as_they_are(model: JointModel, label: int) -> None:
    """Within 0.06, of which three standard errors of 2000 samples are 0.034."""
    given = {"label": torch.full((N,), label)}
    found = mmcore.sample(model, N, given=given, seed=1, steps=30)
    torch.testing.assert_close(shares(model, found["text"]), SHARES[label], atol=0.06, rtol=0)
    given = {"image": torch.full((N, 1, 2, 2), float(BRIGHT[label]))}
    found = mmcore.sample(model, N, given=given, seed=2, steps=30)
    torch.testing.assert_close(shares(model, found["text"]), SHARES[label], atol=0.06, rtol=0)


@pytest.mark.parametrize("number", range(4))
def test_class_and_picture_of_a_text_are_as_bayes_says(model: JointModel, number: int) -> None:
    text = model.modalities[2].read(TEXTS[number]).expand(N, -1)
    found = mmcore.sample(model, N, given={"text": text}, seed=3, steps=30)
    want = SHARES[1, number] / SHARES[:, number].sum()
    assert float(found["label"].float().mean()) == pytest.approx(float(want), abs=0.06)
    # An answer is a point of the image's density, so each is near one of the two classes' means.
    bright = (found["image"].mean((1, 2, 3)) > 0).float().mean()
    assert float(bright) == pytest.approx(float(want), abs=0.06)


def test_a_text_seen_in_part_is_filled_in_by_what_is_given(model: JointModel) -> None:
    """Of a text of two symbols that ends in b, "ab" and "bb" are as likely as their shares among both, and so are the classes.

    Such questions are few among those trained: within 0.08.
    """
    x = model.modalities[2].read("bb").expand(N, -1)
    where = torch.tensor([False, True]).expand(N, -1)
    found = mmcore.sample(model, N, given={"text": x}, where={"text": where}, seed=4, steps=30)
    share = shares(model, found["text"])
    assert float(share[1] + share[2]) > 0.95
    assert float(share[1]) == pytest.approx(0.4 / 0.9, abs=0.08)
    assert float(found["label"].float().mean()) == pytest.approx(0.4 / 0.9, abs=0.08)


def test_a_text_that_is_begun_goes_on_as_often_as_such_texts_do(model: JointModel) -> None:
    """Of those that begin with a, 0.4 go on; of those with b all. Within 0.06."""
    for begun, share in (("a", 0.4), ("b", 1.0)):
        x = model.modalities[2].read(begun).expand(N, -1)
        where = torch.tensor([True, False]).expand(N, -1)
        found = mmcore.sample(model, N, given={"text": x}, where={"text": where}, seed=4, steps=30)
        assert float((found["text"][:, 1] == 2).float().mean()) == pytest.approx(share, abs=0.06)
