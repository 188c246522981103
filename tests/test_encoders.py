"""Trained encoders keep their codes' variance whatever they learn; free ones do not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import Encoder, JointModel, Registry, RequestError, Rng
from mmcore.data import Table, TensorBatch
from mmcore.modality.orthogonal import LARGEST, Turned
from mmcore.process import schedule
from mmcore.testing.reference import Reference

SMALL = {"width": 32, "depth": 1}


class Free(Encoder):
    """A linear map that starts as the identity, with nothing to hold it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def rows(seed: int = 0) -> Table:
    """Normal vectors of four numbers, ``b`` near ``a``."""
    rng = Rng.for_rows(seed, 512)
    a = rng.of("a").normal(4)
    b = 0.9 * a + (1 - 0.81) ** 0.5 * rng.of("b").normal(4)
    return Table(TensorBatch({"a": a, "b": b}, torch.ones(512, 2, dtype=torch.bool)))


def fitted(free: bool, weighting: str) -> JointModel:
    """Two vectors, the encoder of ``a`` learned: turned, or free."""
    modalities = []
    for name in "ab":
        m = Reference(4)
        m.name = name
        modalities.append(m)
    model = mmcore.compose(
        modalities,
        trained_encoders=[] if free else ["a"],
        schedule=schedule.cosine(50, 2),
        backbone="mlp",
        backbone_options=SMALL,
        # A head that begins from its own noisy code gains little by large codes, in so short a training.
        reading="space",
    )
    if free:
        model.encoders["a"] = Free(4)
    mmcore.fit(model, rows(), steps=400, lr=1e-2, weighting=weighting, quiet=True, device="cpu")
    return model


def variances(model: JointModel) -> Tensor:
    """Of the elements of ``a``'s code over the data, along its principal axes."""
    with torch.no_grad():
        code = model.encoders["a"](rows().rows.values["a"])
    return torch.linalg.eigvalsh(code.T.cov())


@pytest.mark.parametrize("weighting", ["simple", "elbo"])
def test_a_turned_code_keeps_its_variance_while_a_free_one_does_not(weighting: str) -> None:
    fixed = torch.linalg.eigvalsh(rows().rows.values["a"].T.cov())
    turned, free = (fitted(free, weighting) for free in (False, True))
    torch.testing.assert_close(variances(turned), fixed, rtol=1e-3, atol=1e-4)
    weight = turned.encoders["a"].turn.weight.detach()  # type: ignore[union-attr]
    assert (weight - torch.eye(4)).abs().max() > 0.01, "it learned nothing"
    ratio = variances(free) / fixed
    assert ratio.max() > 2 or ratio.min() < 0.5, ratio


@pytest.mark.parametrize("code", [(5,), (3, 4, 4), (4, 12, 12)])
def test_any_weights_keep_the_length(code: tuple[int, ...]) -> None:
    """The turn is orthogonal at any weights, and mixes channels alone in codes that are too large."""
    turned = Turned(nn.Identity(), code)
    with torch.no_grad():
        torch.testing.assert_close(turned(torch.ones(2, *code)), torch.ones(2, *code))
        for p in turned.parameters():
            p += Rng.for_rows(0, len(p)).normal(*p.shape[1:])
        x = Rng.for_rows(1, 6).normal(*code)
        y = turned(x)
        assert y.shape == x.shape
        torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
        assert (y - x).abs().max() > 0.1
        if x[0].numel() > LARGEST:
            # Place by place: what is zero at a place stays so.
            x[:, :, 0] = 0
            assert (turned(x)[:, :, 0].abs() < 1e-6).all()


def test_first_party_encoders_can_be_trained(registry: Registry, tmp_path: Path) -> None:
    """Of all four kinds; expected codes stay the mean of the draws' codes, and a saved model comes back with its turns."""
    make = registry.modality
    modalities = [
        make("image", channels=1, size=4),
        make("mask", size=4, classes=3),
        make("label", classes=3),
        make("clip", name="vector", width=4),
    ]
    names = [m.name for m in modalities]
    model = mmcore.compose(
        modalities, trained_encoders=names, schedule="cosine", backbone="mlp", backbone_options=SMALL, registry=registry
    )
    values = {m.name: m.typical(64, 0) for m in modalities}
    table = Table(TensorBatch(values, torch.ones(64, 4, dtype=torch.bool)))
    mmcore.fit(model, table, steps=10, lr=1e-2, quiet=True, device="cpu")
    n = 6000
    with torch.no_grad():
        params = {
            m.name: model.heads.decoder(m.name)(
                Rng.for_rows(1, 1).of(m.name).normal(16, *model.space.grid), torch.ones(1, dtype=torch.int64)
            )
            for m in modalities
        }
        wide = {name: p.expand(n, *p.shape[1:]) for name, p in params.items()}
        drawn = model.heads.expected_codes(wide, Rng.for_rows(2, n), draw_all=True)
        mean = model.heads.expected_codes(params)[0]
    # Pixels are clipped and vectors put onto the sphere when drawn, so those two agree less.
    start = 0
    for m in modalities:
        stop = start + torch.Size(m.code).numel()
        part = drawn[:, start:stop]
        if m.discrete:
            gap = (part.mean(0) - mean[start:stop]).abs()
            assert (gap < 5 * part.std(0) / n**0.5 + 1e-3).all(), m.name
        start = stop
    mmcore.save(model, tmp_path)
    twin = mmcore.load(tmp_path, registry=registry)
    assert twin.trained_encoders == tuple(names)
    torch.testing.assert_close(twin.encode(values), model.encode(values))


def test_a_turned_modality_is_observed_as_a_whole(registry: Registry) -> None:
    image = registry.modality("image", channels=1, size=4)
    label = registry.modality("label", classes=3)
    model = mmcore.compose([image, label], trained_encoders=["image"], backbone="mlp", backbone_options=SMALL)
    x, where = image.typical(2, 0), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    where[:, :, :2] = True
    with pytest.raises(RequestError, match="'image' cannot be observed in part"):
        mmcore.sample(model, 2, given={"image": x}, where={"image": where})
    answer = mmcore.sample(model, 2, given={"image": x}, conditioning="posterior", steps=3)
    assert torch.equal(answer["image"], x)


def test_bad_requests(registry: Registry) -> None:
    label = registry.modality("label", classes=3)
    with pytest.raises(
        RequestError,
        match=r"trained_encoders = \['lable'\], expected names among label, not 'lable'; did you mean 'label'",
    ):
        mmcore.compose([label], trained_encoders=["lable"])
    with pytest.raises(RequestError, match=r"a code of shape \(1,\) cannot be turned"):
        mmcore.compose([Reference(1)], trained_encoders=["reference"])
