"""Several modalities in one: the likelihood is the sum of theirs, the codes lie side by side, and any part may be missing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mmcore
from mmcore import Modality, PluginError, RequestError, Space, Spec
from mmcore.data import Dataset, Table
from mmcore.modality import VOID, NoisyCode
from mmcore.modality.holes import seen_of
from mmcore.modality.mixed import Mixed, MixedDecoder, MixedEncoder, final
from mmcore.modality.packed import PackedSpec
from mmcore.rng import Rng
from mmcore.testing.strategies import corners, samples
from mmcore_clip import ClipModality
from mmcore_label import LabelModality
from mmcore_mask import MaskModality
from mmcore_scalar import ScalarModality

PARTS = {
    "age": lambda: ScalarModality(mean=40, std=15),
    "visits": lambda: ScalarModality(kind="count", mean=3, std=2),
    "group": lambda: LabelModality(4, frequencies=[0.1, 0.2, 0.3, 0.4]),
    "traits": lambda: LabelModality(3, multi=True),
    "vector": lambda: ClipModality(5, unit_norm=False),
    "direction": lambda: ClipModality(4),
    "map": lambda: MaskModality((2, 3), 3, void=7),
}
SPACE = Space((4, 4))


def mixed(*names: str) -> Mixed:
    return Mixed("row", {name: PARTS[name]() for name in names})  # type: ignore[no-untyped-call]


some = st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=4, unique=True)


@settings(max_examples=25)
@given(some, st.integers(0, 99))
def test_it_is_its_parts_side_by_side(names: list[str], seed: int) -> None:
    m, n = mixed(*names), 6
    torch.manual_seed(seed)
    decoder, encoder = m.decoder(8, SPACE), m.encoder()
    assert isinstance(decoder, MixedDecoder)
    assert isinstance(encoder, MixedEncoder)
    for p in decoder.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    features, t = torch.randn(n, 8, 4), torch.ones(n, dtype=torch.int64)
    own = [part(features, t) for part in decoder.parts]
    params, x = decoder(features, t), m.typical(n, seed)
    m.spec.check(x, "x")
    values = [part.typical(n, seed + 7919 * k) for k, part in enumerate(m.parts.values())]
    for value, back in zip(values, m.packed.split(x), strict=True):
        assert value.dtype == back.dtype
        assert torch.equal(value, back)
    # Codes, likelihoods, expected codes, points and draws.
    codes = [part.encoder()(value).flatten(1) for part, value in zip(m.parts.values(), values, strict=True)]
    assert torch.equal(encoder(x), torch.cat(codes, 1))
    assert math.prod(m.code) == encoder(x).shape[1]
    losses = [part.loss()(p, value) for part, p, value in zip(m.parts.values(), own, values, strict=True)]
    assert torch.allclose(m.loss()(params, x), torch.stack(losses).sum(0))
    expected = [part.expected_code(p, e, d).flatten(1) for part, p, e, d in zip(m.parts.values(), own, encoder.parts, decoder.parts, strict=True)]  # type: ignore[arg-type]  # fmt: skip
    assert torch.equal(m.expected_code(params, encoder, decoder), torch.cat(expected, 1))
    rng = Rng.for_rows(seed, n)
    draws, answer = (
        m.packed.split(decoder.sample(params, rng)),
        m.packed.split(final(decoder, params, rng, drawn=m.discrete)),
    )
    points = m.packed.split(decoder.point(params))
    for name, part, p, d, drawn, point, told in zip(m.parts, m.parts.values(), own, decoder.parts, draws, points, answer, strict=True):  # fmt: skip
        assert torch.allclose(drawn.float(), d.sample(p, rng.of(name)).float())  # type: ignore[operator]
        assert torch.allclose(point.float(), d.point(p).float())  # type: ignore[operator]
        assert torch.equal(told, drawn if part.discrete else point)


def test_where_codes_are_drawn_its_classes_are_and_its_numbers_are_not() -> None:
    """`codes="draw"`: each part enters a step as it would alone; with `"draw-all"` all are drawn."""
    m = mixed("age", "group", "vector", "traits")
    model = mmcore.compose([m], backbone="mlp", backbone_options={"width": 8, "depth": 1})
    decoder, encoder = model.heads.decoder("row"), model.encoders["row"]
    params, rng = torch.randn(5, sum(math.prod(s) for s in m.shapes)), Rng.for_rows(3, 5)
    drawn, mean = encoder(decoder.sample(params, rng.of("row"))), model.heads.expected_codes({"row": params})
    wide = [math.prod(part.code) for part in m.parts.values()]
    classes = torch.tensor([part.discrete for part in m.parts.values()]).repeat_interleave(torch.tensor(wide))
    found = model.heads.expected_codes({"row": params}, rng)
    torch.testing.assert_close(found, torch.where(classes, drawn, mean))
    assert not torch.allclose(found[:, classes], mean[:, classes])
    torch.testing.assert_close(model.heads.expected_codes({"row": params}, rng, draw_all=True), drawn)


@settings(max_examples=25)
@given(some, st.integers(0, 99))
def test_masks_are_the_parts_masks(names: list[str], seed: int) -> None:
    m, n = mixed(*names), 5
    params = torch.randn(n, sum(math.prod(shape) for shape in m.shapes), generator=torch.Generator().manual_seed(seed))
    x = m.typical(n, seed)
    where = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    pieces = zip(m.parts.values(), m.params(params), m.packed.split(x), m.packed.split_mask(where), strict=True)
    want = sum(part.loss()(p, value, mask) for part, p, value, mask in pieces)
    assert torch.allclose(m.loss()(params, x, where), want)  # type: ignore[arg-type]
    known = m.code_where(where)
    at = 0
    for part, mask in zip(m.parts.values(), m.packed.split_mask(where), strict=True):
        size = math.prod(part.code)
        own = (
            part.code_where(mask).flatten(1) if part.divisible else mask.reshape(n, -1).all(1)[:, None].expand(-1, size)
        )
        assert torch.equal(known[:, at : at + size], own)
        at += size
    assert at == known.shape[1]


@settings(max_examples=25)
@given(st.data(), some)
def test_what_the_kit_draws_is_of_the_spec(data: st.DataObject, names: list[str]) -> None:
    spec = mixed(*names).packed
    spec.check(data.draw(samples(spec)), "drawn")
    for x in corners(spec):
        spec.check(x, "corner")
    spec.check(spec.placeholder(3), "placeholder")
    assert spec.there(spec.placeholder(3)).all()


def test_of_missing_cells_nothing_counts_and_they_are_filled_when_asked() -> None:
    m = mixed("age", "group", "visits")
    model = mmcore.compose([m, LabelModality(2)], backbone="mlp", backbone_options={"width": 16, "depth": 1})
    rows = [
        {"row": {"age": 20.0 + k, "group": k % 4, "visits": None if k % 3 else k % 5}, "label": k % 2}
        for k in range(60)
    ]
    table = Table.read(rows, model.variables)
    x = table.rows.values["row"]
    assert ((x[:, 2] == VOID) == torch.tensor([bool(k % 3) for k in range(60)])).all()
    found: list[Tensor] = []
    handle = model.decoders["row"].register_forward_hook(lambda *args: found.append(args[2]))
    torch.manual_seed(1)
    noise = torch.randn(60, *model.space.shape)
    losses = model(
        {"row": x, "label": table.rows.values["label"]}, torch.full((60,), 3), torch.zeros(60, 2).long(), noise
    )
    handle.remove()
    parts = list(zip(m.parts.values(), m.params(found[0]), m.packed.split(x), strict=True))
    own = torch.stack([part.loss()(p, value) for part, p, value in parts], 1)
    want = own[:, :2].sum(1) + torch.where(x[:, 2] == VOID, 0.0, own[:, 2])
    assert torch.allclose(losses[:, 0], want)
    mmcore.fit(model, table, steps=5, roles=mmcore.RoleMix(partial=0.5), weighting="elbo", device="cpu", quiet=True)
    some = x[:6]
    assert torch.equal(mmcore.sample(model, 6, given={"row": some}, steps=3)["row"], some)
    there = m.spec.there(some)
    filled = mmcore.sample(model, 6, given={"row": some}, where={"row": there}, steps=3)["row"]
    assert torch.equal(filled[there], some[there])
    assert (filled != VOID).all()
    m.spec.check(filled, "filled")


def test_what_is_only_observed_together_is_seen_as_a_whole_or_not_at_all() -> None:
    """A direction in part would be left out of the loss, and of the answer, without the network being told of it."""
    inner = Mixed("inner", {"direction": ClipModality(4), "vector": ClipModality(2, unit_norm=False)})
    m = Mixed("row", {"age": ScalarModality(mean=40, std=15), "direction": ClipModality(3), "inner": inner})
    n, parts = 4000, {"age": [0], "direction": [1, 2, 3], "inner direction": [4, 5, 6, 7]}
    seen = mmcore.RoleMix(partial=1.0).draw_seen(Rng.for_rows(0, n), [m])
    assert seen is not None
    mask = seen["row"]
    for name, at in parts.items():
        part = mask[:, at]
        assert (part.any(1) == part.all(1)).all(), name
        # As often as a number alone: a half; by chance one in 16,000 is farther off than four errors.
        assert abs(part[:, 0].double().mean() - 0.5) < 4 * 0.5 / n**0.5, name
    assert (mask[:, 8] != mask[:, 9]).any()
    # Of what is void in part nothing is seen: the network could not be told of it.
    x = m.typical(n, 0)
    x[:, 2] = VOID
    told = seen_of(m, x, mask)
    assert not told[:, [1, 2, 3]].any()
    assert torch.equal(told[:, [0, 4, 8]], mask[:, [0, 4, 8]])
    assert torch.equal(m.code_where(told), told)


def test_a_question_that_splits_what_is_only_observed_together_is_refused() -> None:
    m = mixed("age", "direction")
    model = mmcore.compose([m, LabelModality(2)], backbone="mlp", backbone_options={"width": 8, "depth": 1})
    x, where = m.typical(3, 0), torch.ones(3, 5, dtype=torch.bool)
    where[1, 3] = False
    with pytest.raises(RequestError, match=r"sample: where 'row' has element 1 in row 1 without all that is only observed together with it, expected all of that or none"):  # fmt: skip
        mmcore.sample(model, 3, given={"row": x}, where={"row": where}, steps=2)
    where[1, 1:] = False
    for conditioning in ("roles", "posterior"):
        found = mmcore.sample(model, 3, given={"row": x}, where={"row": where}, steps=2, conditioning=conditioning)
        m.spec.check(found["row"], "found")
        assert torch.equal(found["row"][where], x[where])


def test_reading_and_showing() -> None:
    m = mixed("age", "group", "vector")
    x = m.read({"age": "31.5", "group": 2, "vector": [1, 2, 3, 4, 5]})
    assert x.tolist() == [31.5, 2, 1, 2, 3, 4, 5]
    assert torch.equal(m.read([31.5, 2, np.arange(1.0, 6)]), x)
    assert torch.equal(m.read(x), x)
    assert torch.equal(m.read(x.double().numpy()), x)
    assert torch.equal(m.read(m.raw(x)), x)
    missing = m.read({"age": 31.5, "vector": None})
    assert missing.tolist() == [31.5, *[VOID] * 6]
    assert torch.equal(m.read([31.5, float("nan"), None]), missing)
    assert torch.equal(m.read(np.array([31.5, *[np.nan] * 6])), missing)
    assert m.raw(missing) == [31.5, None, None]
    assert m.show(missing) == "age: 31.5, group: –, vector: –"
    with_void = mixed("map", "age")
    holed = with_void.read([torch.tensor([[0, 7, 1], [2, 7, 0]]), 3.0])
    assert (holed == VOID).tolist() == [False, True, False, False, True, False, False]
    assert torch.equal(with_void.read(with_void.raw(holed)), holed)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"ages": 3}, "found 'ages', expected age, group; did you mean 'age'"),
        ({"age": "old"}, "^age: found 'old', expected a number"),
        ([1.0], "found 1 values, expected 2: age, group"),
        ("31, 2", "found str, expected a mapping or a list of age, group"),
        (np.array([31.0, 2.5]), "row, group: found 2.5 in row 0, expected whole numbers"),
        (np.array([31.0, 4.0]), "row, group: found 4 in row 0, expected 0 … 3"),
        (np.array([31.0, np.inf]), "NaN or infinity"),
        (np.zeros(3), r"found shape \(1, 3\), expected \(B, 2\)"),
    ],
)
def test_what_is_wrong_is_said_with_its_part(raw: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        mixed("age", "group").read(raw)


def test_counts_beyond_what_float32_tells_apart_are_refused() -> None:
    class Big(ScalarModality):
        def __init__(self) -> None:
            super().__init__()
            self.spec = Spec((), torch.int64)

    spec = PackedSpec.of({"big": Big().spec})
    spec.check(torch.tensor([[2.0**24]]), "x")
    with pytest.raises(RequestError, match=r"big: found .* expected whole numbers up to 16777216"):
        spec.check(torch.tensor([[2.0**25]]), "x")


def test_scores_are_the_parts_of_the_rows_that_have_them() -> None:
    m = mixed("age", "group")
    truth = torch.tensor([[30.0, 1], [VOID, 2], [50.0, VOID]])
    guess = torch.tensor([[33.0, 1], [1.0, 3], [50.0, 0]])
    scores = m.metrics()
    accuracy = scores["group_accuracy"](guess, truth)
    assert accuracy[:2].tolist() == [1.0, 0.0]
    assert accuracy[2].isnan()
    age = next(name for name in scores if name.startswith("age_") and name.endswith("absolute_error"))
    assert scores[age](guess, truth)[0] == pytest.approx(3.0)
    assert scores[age](guess, truth)[1].isnan()


def test_what_is_measured_is_that_of_the_rows_that_have_it() -> None:
    m = mixed("age", "group")
    x = torch.tensor([[30.0, 1], [VOID, 1], [50.0, VOID], [40.0, 3]])
    found = m.measured_parts(x)
    assert found["age"] == ScalarModality().measured(torch.tensor([30.0, 50.0, 40.0]))
    assert found["group"] == LabelModality(4).measured(torch.tensor([1, 1, 3]))


def test_what_is_measured_of_a_part_with_void_is_of_all_that_it_knows() -> None:
    m = mixed("age", "map")
    x = m.typical(40, 0)
    # Not one map is without a hole.
    x[torch.arange(40), 1 + torch.arange(40) % 6] = VOID
    x[3, 1:] = VOID
    value = torch.where(x[:, 1:] == VOID, 7, x[:, 1:]).long().reshape(40, 2, 3)
    assert m.measured_parts(x)["map"] == MaskModality((2, 3), 3, void=7).measured(value)


def test_a_number_of_numpy_s_that_is_none_is_missing() -> None:
    m = mixed("age", "group")
    for none in (math.nan, np.float32("nan"), np.float64("nan"), None):
        assert m.read({"age": none, "group": 1}).tolist() == [VOID, 1]


def test_of_a_table_it_reads_the_columns_of_its_parts(tmp_path: Path, registry: mmcore.Registry) -> None:
    (tmp_path / "people.csv").write_text("age,group,label\n31.5,2,0\n,1,1\n40,,0\n,,1\n")
    m = mixed("age", "group")
    source = registry.source("table", path=str(tmp_path / "people.csv"))
    batch = Dataset(source, [m, LabelModality(2)]).take(range(4))
    assert batch.values["row"].tolist()[:3] == [[31.5, 2], [VOID, 1], [40, VOID]]
    assert batch.present.tolist() == [[True, True], [True, True], [True, True], [False, True]]
    with pytest.raises(RequestError, match=r"row 0, row: age: found 'old'"):
        Dataset([{"age": "old", "group": 1}], [m]).take([0])
    # A column of its own name comes first.
    own = Dataset([{"row": [1.0, 3], "age": 7, "group": 0}], [m]).take([0])
    assert own.values["row"].tolist() == [[1, 3]]


def test_rows_of_which_none_has_it_are_read(registry: mmcore.Registry) -> None:
    m, label = mixed("age", "group", "map"), registry.modality("label", classes=3)
    batch = Dataset([{"label": 1}, {"label": 2}], [m, label]).take([0, 1])
    assert batch.present.tolist() == [[False, True], [False, True]]
    m.packed.check(m.packed.placeholder(0), "none")
    assert m.packed.placeholder(0).shape == (0, 8)


def test_no_part_and_what_is_none_are_refused() -> None:
    with pytest.raises(PluginError, match="found no part"):
        Mixed("row", {})
    with pytest.raises(PluginError, match=r"found \['age'\]"):
        Mixed("row", {"age": 3})  # type: ignore[dict-item]


def test_a_part_that_is_not_a_modality_is_told(registry: mmcore.Registry) -> None:
    parts: dict[str, Modality] = {"a": registry.modality("label", classes=2), "b": registry.modality("scalar")}
    assert repr(Mixed("row", parts)) == "Mixed('row', shape=(2,), code=(3,))"


# ---- calibration ----


def test_each_part_is_judged_as_it_is_alone() -> None:
    """By its own kind, over the rows that have it; a part that is missing in a row is NaN or counts nothing there, also where no row has it."""
    names, n, M = ["age", "group", "traits", "vector", "map"], 12, 5
    m = mixed(*names)
    draws, truth = torch.stack([m.typical(n, k) for k in range(M)]), m.typical(n, 99)
    gone = torch.arange(n) % 3 == 0
    for at in m.packed.slices[:3]:
        truth[gone, at] = VOID
    truth[1, m.packed.slices[3].start] = VOID  # one number of a vector
    found = m.calibration(draws, truth)
    for name, part, spec in zip(names, m.parts.values(), m.packed.slices, strict=True):
        place = names.index(name)
        x, y = m.packed.split(draws.flatten(0, 1))[place].unflatten(0, (M, n)), m.packed.split(truth)[place]
        y = y.where(m.packed.split_mask(m.packed.there(truth))[place], math.nan) if y.is_floating_point() else y
        rows = ~gone if place < 3 else torch.ones_like(gone)
        for kind, own, want in part.calibration(x[:, rows], y[rows]).parts():
            told = getattr(found, kind)[name + own if not own or own[0] == "[" else f"{name}_{own}"]
            assert torch.equal(told[rows].nan_to_num(-9), want.nan_to_num(-9)), (kind, name, own, spec)
            assert (told[~rows].isnan() | (told[~rows] == 0)).all()
    assert {"age_crps", "group_brier", "vector_crps[0]"} <= found.scores.keys()
    assert "group" in found.reliability
    assert "group" not in found.ranks
    nobody = m.calibration(draws[:, gone], truth[gone])
    assert [(kind, own) for kind, own, _ in nobody.parts()] == [(kind, own) for kind, own, _ in found.parts()]


def test_rows_of_unlike_parts_lie_evenly_as_a_whole() -> None:
    """A rare group is of great age. Draws that know both, but not that they go together, look well part by part and not jointly; honest ones do both."""
    m, n, M = mixed("age", "group"), 1500, 19
    g = torch.Generator().manual_seed(1)

    def of(group: Tensor, other: Tensor) -> Tensor:
        age = 50 * other + torch.randn(other.shape, generator=g)
        return m.packed.join([age.flatten(), group.flatten()]).unflatten(0, group.shape)

    group, other = (torch.rand(2, M + 1, n, generator=g) < 0.3).long()
    values = of(group, group)
    apart = of(group[:M], other[:M])
    truth = values[M].clone()
    truth[::8, 1] = VOID
    for draws, even in ((values[:M], True), (apart, False)):
        found = m.calibration(draws, truth)
        # Each with a false alarm rate below 1e-6: five standard errors of a share, of which most bins are fractions.
        for name, x in {"age": found.ranks["age"], "joint": found.depths["joint"]}.items():
            gap = (x.unflatten(1, (4, -1)).sum(2).mean(0) - 0.25).abs().max()
            assert (gap < 5 * math.sqrt(0.25 * 0.75 / n)) == (even or name == "age"), (name, gap)


def test_parts_begin_from_their_own_noisy_codes() -> None:
    parts = {"age": ScalarModality(2), "kind": LabelModality(classes=3), "vector": ClipModality(4)}
    mixed = Mixed("row", parts)
    decoder = mixed.decoder(3, Space((2, 4)))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    features, t = torch.randn(5, 3, 4, generator=noise), torch.full((5,), 3)
    z = torch.randn(5, *mixed.code, generator=noise)
    own = NoisyCode(z, torch.full((5,), 0.8), torch.full((5,), 0.6))
    assert decoder.preconditioned
    found = mixed.params(decoder(features, t, own))
    plain = mixed.params(decoder(features, t))
    sizes = [math.prod(part.code) for part in parts.values()]
    for key, one, without, its, of in zip(parts, found, plain, decoder.parts, z.split(sizes, dim=1), strict=True):
        its_own = NoisyCode(of.reshape(5, *parts[key].code), own.weight, own.sigma)
        torch.testing.assert_close(one, without if key == "kind" else its(features, t, its_own))
        assert (key == "kind") == torch.equal(one, without)
    labels = Mixed("labels", {"kind": LabelModality(classes=3)})
    assert not labels.decoder(3, Space((2, 4))).preconditioned


def test_a_part_whose_likelihood_is_not_of_the_data_is_told_beside_the_bound(registry: mmcore.Registry) -> None:
    class Latent(ScalarModality):
        likelihood_of = "an autoencoder's latent"

    m = Mixed("row", {"age": ScalarModality(mean=40, std=15), "view": Latent()})
    model = mmcore.compose([m], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
    bound = mmcore.evaluate(model, [{"row": {"age": 30, "view": 0.5}}, {"row": {"age": 50}}], draws=2)
    assert dict(bound.of) == {"row": "an autoencoder's latent (view)"}
    assert bound.table().endswith("row: the likelihood of an autoencoder's latent (view), not of the data themselves")
