"""What every first-party modality owes, each checked alike; plugin-specific laws are with the plugins."""

import math

import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import Modality, Rng, Space

CASES = {
    "image": ("image", {"channels": 3, "size": 8}),
    "image-grey": ("image", {"channels": 1, "size": (6, 10), "levels": 17, "mean": -0.3, "std": 0.6}),
    "mask-binary": ("mask", {"size": 8}),
    "mask-classes": ("mask", {"size": 8, "classes": 4, "void": 9, "frequencies": [0.1, 0.2, 0.3, 0.4]}),
    "label": ("label", {"classes": 5, "frequencies": [0.1, 0.3, 0.2, 0.15, 0.25]}),
    "label-multi": ("label", {"classes": 4, "multi": True, "frequencies": [0.1, 0.5, 0.3, 0.8]}),
    "clip-sphere": ("clip", {"width": 16}),
    "clip-vector": ("clip", {"width": 16, "unit_norm": False, "scale": 3.0}),
    "scalar": ("scalar", {"mean": 41.0, "std": 18.0}),
    "scalar-vector": ("scalar", {"size": 3, "tail": "student", "mean": [40.0, 1.5, -300.0], "std": [12.0, 0.2, 50.0]}),
    "scalar-count": ("scalar", {"kind": "count", "high": 40, "mean": 12.0, "std": 6.0}),
}
SPACES = [Space((8, 8, 8)), Space((64, 16)), Space((4, 4, 4, 8))]


@pytest.fixture(params=CASES, scope="module")
def modality(request: pytest.FixtureRequest) -> Modality:
    name, options = CASES[request.param]
    return mmcore.discover().modality(name, **options)


def params_of(modality: Modality, n: int, space: Space = SPACES[0]) -> tuple[mmcore.Decoder, Tensor]:
    """A decoder with random weights, and its parameters for random features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = modality.decoder(6, space)
        with torch.no_grad():
            for p in decoder.parameters():
                p += 0.3 * torch.randn_like(p)
        features = torch.randn(n, 6, *space.grid)
        return decoder, decoder(features, torch.full((n,), 5)).detach()


def test_codes_have_about_unit_variance(modality: Modality) -> None:
    x = modality.typical(4000, 0)
    modality.spec.check(x, modality.name)
    code = modality.encoder()(x)
    assert code.shape == (4000, *modality.code)
    assert 0.75 < code.var(0).mean() < 1.25
    assert torch.equal(modality.typical(4000, 0), x)
    assert not torch.equal(modality.typical(4000, 1), x)


def test_encoding_is_row_by_row_and_leaves_its_input_alone(modality: Modality) -> None:
    x = modality.typical(6, 3)
    before, encode = x.clone(), modality.encoder()
    whole = encode(x)
    assert torch.equal(x, before)
    for k in range(6):
        torch.testing.assert_close(encode(x[k : k + 1])[0], whole[k])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_answers_fit_the_spec_in_any_space(modality: Modality, space: Space) -> None:
    decoder, params = params_of(modality, 7, space)
    modality.spec.check(decoder.point(params), "point")
    modality.spec.check(decoder.sample(params, Rng.for_rows(0, 7)), "sample")


def test_draws_depend_on_their_own_row_only(modality: Modality) -> None:
    decoder, params = params_of(modality, 6)
    whole = decoder.sample(params, Rng.for_rows(0, 6))
    torch.manual_seed(99)
    torch.testing.assert_close(decoder.sample(params[2:5], Rng.for_rows(0, 3, start=2)), whole[2:5])


def test_loss_is_per_sample_and_obeys_where(modality: Modality) -> None:
    _, params = params_of(modality, 5)
    x, loss = modality.typical(5, 0), modality.loss()
    whole = loss(params, x)
    assert whole.shape == (5,)
    assert whole.isfinite().all()
    torch.testing.assert_close(loss(params[[3, 1]], x[[3, 1]]), whole[[3, 1]])
    nowhere = torch.zeros(x.shape, dtype=torch.bool)
    assert torch.equal(loss(params, x, nowhere), torch.zeros(5))
    torch.testing.assert_close(loss(params, x, ~nowhere), whole)
    if x.ndim > 2:
        half = torch.zeros(x.shape, dtype=torch.bool)
        half[:, ..., : x.shape[-1] // 2] = True
        torch.testing.assert_close(loss(params, x, half) + loss(params, x, ~half), whole)


def test_loss_gradient_is_that_of_finite_differences(modality: Modality) -> None:
    _, params = params_of(modality, 2)
    x = modality.typical(2, 0)
    x = x.double() if x.is_floating_point() else x
    loss = modality.loss()
    assert torch.autograd.gradcheck(lambda p: loss(p, x), params.double().requires_grad_())


def test_loss_is_lowest_in_expectation_at_the_truth(modality: Modality) -> None:
    """A proper scoring rule: over draws from p, no other parameters do better than p's own."""
    decoder, params = params_of(modality, 1)
    # Small deviations keep images' draws off the limits of their range, where they are clipped.
    if modality.name == "image":
        params = torch.stack([0.3 * params[:, 0].tanh(), torch.full_like(params[:, 1], -2.0)], dim=1)
    n = 20_000
    draws = decoder.sample(params.expand(n, *params.shape[1:]), Rng.for_rows(1, n))
    loss = modality.loss()
    own = loss(params.expand(n, *params.shape[1:]), draws)
    for seed in range(4):
        other = params + 0.2 * Rng.for_rows(seed, 1).normal(*params.shape[1:])
        gain = loss(other.expand(n, *params.shape[1:]), draws) - own
        # False alarms 3e-7 each, seeds fixed; 1e-5 nats for float32's rounding.
        assert gain.mean() > -5 * gain.std() / math.sqrt(n) - 1e-5


def test_expected_code_is_the_mean_of_the_draws_codes(modality: Modality) -> None:
    decoder, params = params_of(modality, 3)
    if modality.name == "image":
        params = torch.stack([0.3 * params[:, 0].tanh(), torch.full_like(params[:, 1], -2.0)], dim=1)
    n, encode = 20_000, modality.encoder()
    expected = modality.expected_code(params, encode, decoder)
    for k in range(3):
        draws = encode(decoder.sample(params[k : k + 1].expand(n, *params.shape[1:]), Rng.for_rows(k, n)))
        error = (draws.mean(0) - expected[k]) / (draws.std(0) / math.sqrt(n)).clamp(min=1e-4)
        assert error.abs().max() < 6  # at most 192 elements: false alarms below 4e-7


def test_metrics_are_best_for_the_truth(modality: Modality) -> None:
    x = modality.typical(8, 0)
    for name, metric in modality.metrics().items():
        value = metric(x, x)
        assert value.shape == (8,)
        torch.testing.assert_close(value, torch.full((8,), 0.0 if name == "mse" or "error" in name else 1.0))


def test_every_sample_can_be_shown(modality: Modality) -> None:
    shown = modality.show(modality.typical(1, 0)[0])
    assert isinstance(shown, str) or shown.size == (modality.spec.shape[-1], modality.spec.shape[-2])


def test_the_decoder_survives_safetensors(modality: Modality, tmp_path: object) -> None:
    from safetensors.torch import load, save

    decoder, _ = params_of(modality, 1)
    twin = modality.decoder(6, SPACES[0])
    twin.load_state_dict(load(save(decoder.state_dict())))
    features = Rng.for_rows(0, 2).normal(6, 8, 8)
    t = torch.tensor([1, 2])
    assert torch.equal(decoder(features, t), twin(features, t))
