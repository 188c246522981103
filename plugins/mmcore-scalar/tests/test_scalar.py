"""What is read, refused, shown and measured."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from mmcore import OptionError, RequestError
from mmcore_scalar import ScalarModality


@pytest.mark.parametrize(
    "raw",
    [
        41,
        41.0,
        "41",
        "41.0",
        " 4.1e1 ",
        np.int64(41),
        np.uint8(41),
        np.float16(41),
        np.array(41),
        np.array([41], dtype=">i2"),
        np.array([[41.0]]),
        torch.tensor(41),
        torch.tensor(41.0, dtype=torch.bfloat16),
        torch.tensor([41.0], dtype=torch.float64, requires_grad=True),
        [41],
        (41.0,),
        ["41"],
        Decimal("41.0"),
        Fraction(82, 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["real", "count"])
def test_one_number_reads_alike_however_it_is_written(raw: Any, kind: str) -> None:
    x = ScalarModality(kind=kind).read(raw)
    assert x.shape == ()
    assert x.dtype == torch.float32
    assert x.item() == 41


@pytest.mark.parametrize(
    "raw",
    [[1, 2.5, -3], ("1", "2.5", "-3"), np.array([1, 2.5, -3]), np.array([[1], [2.5], [-3]]), torch.tensor([[1, 2.5, -3]])],
    ids=repr,
)  # fmt: skip
def test_vectors_read_alike(raw: Any) -> None:
    assert ScalarModality(3).read(raw).tolist() == [1, 2.5, -3]


WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a word": ({}, "old", r"found 'old', expected a number such as 3\.5"),
    "an empty text": ({}, "", "found '', expected a number"),
    "a decimal comma": ({}, "3,5", "found '3,5', expected a number"),
    "a name that Python reads as a number": ({}, "16_5", "found '16_5', expected a number"),
    "a number with its unit": ({}, "41 years", "found '41 years', expected a number"),
    "a long text": ({}, "x" * 500, "found 'x{57}…', expected"),
    "nothing": ({}, None, "found NoneType, expected a number"),
    "true": ({}, True, "found True, expected a number; yes or no is a label of two classes"),
    "numpy's true": ({}, np.bool_(True), "found True"),
    "torch's true": ({}, torch.tensor(True), "found True"),
    "an array of truth values": ({"size": 2}, np.array([True, False]), "found True"),
    "NaN": ({}, math.nan, "found nan, expected a finite number; leave it out where it is missing"),
    "NaN as a text": ({}, "NaN", "found nan, expected a finite number"),
    "infinity": ({}, np.float32("inf"), "found inf, expected a finite number"),
    "a complex number": ({}, 1j, "found complex, expected a number"),
    "an array of complex numbers": ({"size": 2}, np.array([1j, 2]), "found complex, expected a number"),
    "beyond float32": ({}, 1e39, r"found 1e\+39, expected at most 3\.4e\+38, as float32 has it"),
    "beyond any float": ({}, 10**400, "found a whole number beyond 1e308"),
    "a date": ({}, np.datetime64("2020-01-01"), "found date, expected a number"),
    "two numbers for one": ({}, [1, 2], "found 2 values, expected one number"),
    "an array for one": ({}, np.zeros((2, 2)), r"found shape \(2, 2\), expected one number"),
    "one number for three": ({"size": 3}, 1.0, "found float, expected a list of 3 numbers"),
    "four numbers for three": ({"size": 3}, np.zeros(4), r"found shape \(4,\), expected 3 numbers"),
    "one missing of three": ({"size": 3}, [1, None, 2], "found NoneType, expected a number"),
    "a matrix of four for four": ({"size": 4}, np.zeros((2, 2)), r"found shape \(2, 2\), expected 4 numbers"),
    "below": ({"low": 0}, -1, "found -1, expected at least low = 0"),
    "above": ({"high": 120}, 120.5, r"found 120\.5, expected at most high = 120"),
    "a part of a count": ({"kind": "count"}, 2.5, r'found 2\.5, expected a whole number; kind = "real" takes others'),
    "a count below nothing": ({"kind": "count"}, -1, "found -1, expected at least low = 0"),
    "a count that float32 would round": ({"kind": "count"}, 2**24 + 1, "found 16777217, expected at most 16,777,216"),
    "nothing to take a logarithm of": ({"log": True}, 0, "found 0, expected a number above 0, of which log is taken"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_such_number_is_refused_in_one_line(case: str) -> None:
    options, raw, match = WRONG[case]
    with pytest.raises(RequestError, match=match) as caught:
        ScalarModality(**options).read(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raws",
    [
        [1, 2.5, "3"],
        [1, 2, 3],
        [1.5, 2.5],
        [np.float32(0.1), np.int64(7), 3],
        [np.array(1), np.array(2.5)],
        [np.array([1]), np.array([2])],
        [torch.tensor(1.0), 2],
    ],
    ids=repr,
)
def test_many_read_as_each_does(raws: list[Any]) -> None:
    m = ScalarModality(low=-5, high=50)
    assert torch.equal(m.read_many(raws), torch.stack([m.read(raw) for raw in raws]))


@pytest.mark.parametrize("raws", [[1, True], [1, math.nan], [1.0, "x"], [np.array(1), np.array(True)], [1, 51]], ids=repr)  # fmt: skip
def test_many_with_a_wrong_one_are_refused(raws: list[Any]) -> None:
    with pytest.raises(RequestError):
        ScalarModality(low=-5, high=50).read_many(raws)


def test_a_number_at_its_limit_stays_inside_though_float32_rounds_it() -> None:
    m = ScalarModality(low=0.1, high=0.7)
    for raw in (0.1, 0.7):
        x = m.read(raw)
        m.spec.check(x[None], "x")
        assert x.item() == pytest.approx(raw)


SHOWN: dict[str, tuple[dict[str, Any], list[float], str]] = {
    "41.3 years": ({"std": 12, "units": "years"}, [41.2783], "41.3 years"),
    "19.99 €": ({"std": 3.5, "units": "€"}, [19.99], "19.99 €"),
    "36.612 °C": ({"std": 0.8, "units": "°C"}, [36.6123], "36.612 °C"),
    "1712345 s": ({"std": 1e4, "units": "s"}, [1712345.0], "1712345 s"),
    "tiny": ({"std": 1e-9}, [3.21e-9], "3.21e-09"),
    "a count": ({"kind": "count", "std": 0.5, "units": "rooms"}, [3.0], "3 rooms"),
    "prices by their logarithm": ({"log": True, "units": "€"}, [1234567.8], "1234568 €"),
    "small ones": ({"log": True}, [0.012345], "0.0123"),
    "a vector": ({"size": 2, "std": [1, 100], "units": "cm"}, [1.234, 567.8], "[1.23, 568] cm"),
    "units of each": ({"size": 2, "std": [12, 3], "units": ["years", "€"]}, [41.0, 2.5], "41.0 years, 2.50 €"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHOWN)
def test_numbers_are_shown_with_units_to_a_hundredth_of_their_deviation(case: str) -> None:
    options, values, text = SHOWN[case]
    m = ScalarModality(**options)
    assert m.show(torch.tensor(values).reshape(m.spec.shape)) == text


def test_errors_are_in_units_and_in_deviations() -> None:
    one = ScalarModality(mean=41, std=18).metrics()
    a, b = torch.tensor([41.0, 50.0]), torch.tensor([50.0, 50.0])
    assert one["absolute_error"](a, b).tolist() == [9, 0]
    assert one["absolute_error_in_deviations"](a, b).tolist() == [0.5, 0]
    two = ScalarModality(2, std=[1.0, 100.0]).metrics()
    a, b = torch.tensor([[1.0, 100.0]]), torch.tensor([[0.0, 400.0]])
    assert two["absolute_error"](a, b).item() == pytest.approx((1 + 300) / 2)
    assert two["absolute_error_in_deviations"](a, b).item() == pytest.approx(2)
    log = ScalarModality(log=True, std=math.log(10)).metrics()
    assert log["absolute_error_in_deviations"](torch.tensor([10.0]), torch.tensor([1000.0])).item() == pytest.approx(2)


@pytest.mark.parametrize("options", [{}, {"size": 3}, {"log": True}, {"kind": "count"}, {"low": 0, "high": 400}])
def test_measured_figures_give_codes_of_unit_variance(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    shape = (5000, options["size"]) if "size" in options else (5000,)
    x = torch.from_numpy(np.exp(rng.normal(3, 0.5, shape))).float().clamp(max=400)
    x = x.round() if options.get("kind") == "count" else x
    m = ScalarModality(**options)
    code = ScalarModality(**options, **m.measured(x)).encoder()(x)
    assert code.shape == (5000, options.get("size", 1))
    torch.testing.assert_close(code.mean(0), torch.zeros(code.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(code.var(0, correction=0), torch.ones(code.shape[1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, -7.5, 1e-30, 120.0])
def test_a_column_that_never_changes_can_be_measured(value: float) -> None:
    options: dict[str, Any] = {"low": value} if value == 0 else {"high": value} if value == 120 else {}
    m = ScalarModality(**options)
    again = ScalarModality(**options, **m.measured(torch.full((10,), value)))
    assert again.encoder()(torch.tensor([value])).item() == pytest.approx(0, abs=1e-6)
    assert again.loss()(torch.zeros(1, 2), torch.tensor([value])).isfinite().all()


def test_numbers_that_float32_does_not_tell_apart_are_refused() -> None:
    m = ScalarModality()
    m.measured(1.7e9 + 86400 * torch.rand(100, dtype=torch.float64).float())
    with pytest.raises(RequestError, match=r"found numbers about 1\.7\d*e\+09 that differ by .*subtract a constant"):
        m.measured((1.7e9 + 1000 * torch.rand(100, dtype=torch.float64)).float())


def test_years_keep_their_tenths() -> None:
    """Nothing is lost where the mean is large beside the deviation."""
    m = ScalarModality(mean=2013.4, std=0.01)
    x = torch.tensor([2013.375, 2013.5])
    torch.testing.assert_close(m.encoder()(x)[:, 0], torch.tensor([-2.5, 10.0]), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size = 0, expected a whole number of at least 1"),
        ({"size": True}, "size = True"),
        ({"mean": math.nan}, "mean = nan, expected a number"),
        ({"mean": [1, 2], "size": 3}, r"mean = \[1, 2\], expected a number, or a list of 3"),
        ({"std": 0}, "std = 0, expected a number above 0"),
        ({"std": [1, -1], "size": 2}, "a number above 0, or a list of 2"),
        ({"units": 3}, "units = 3, expected a text"),
        ({"low": True}, "low = True, expected a number"),
        ({"low": 2, "high": 2}, "high = 2, expected a number above low = 2"),
        ({"low": 0, "mean": -1}, r"mean = -1, expected numbers in 0 … inf, the limits"),
        ({"low": 1, "log": True, "mean": -1}, "expected numbers in 0 … inf, the limits by their logarithms"),
        ({"tail": "cauchy"}, "tail = 'cauchy', expected one of normal, student"),
        ({"kind": "integer"}, "kind = 'integer', expected one of real, count"),
        ({"kind": "count", "log": True}, "log = True, expected false for counts"),
        ({"kind": "count", "tail": "student"}, "tail = 'student', expected normal for counts"),
        ({"kind": "count", "low": 0.5}, r"low = 0\.5, expected a whole number for counts"),
        ({"log": True, "low": 0}, "low = 0, expected a number above 0 with log"),
        ({"log": 1}, "log = 1, expected one of true, false"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        ScalarModality(**options)


@pytest.mark.parametrize(
    ("options", "raw"),
    [
        ({}, 41.3),
        ({"log": True}, 1.25e-7),
        ({"kind": "count"}, 16777216),
        ({"size": 3, "low": -2.0}, [0.1, -2.0, 3e30]),
        ({"size": 2, "kind": "count"}, [0, 7]),
    ],
)
def test_what_is_written_is_read_again(options: dict[str, Any], raw: Any) -> None:
    m = ScalarModality(**options)
    x = m.read(raw)
    assert m.raw(x) == raw
    assert type(m.raw(x)) is type(raw)
    assert torch.equal(m.read(m.raw(x)), x)


@pytest.mark.parametrize(("size", "batch"), [(1, (2,)), (1, (1,)), (3, (2, 3)), (3, (1, 3))])
def test_a_batch_is_no_value(size: int, batch: tuple[int, ...]) -> None:
    m = ScalarModality(size=size)
    for shown in (m.raw, m.show):
        with pytest.raises(RequestError, match=r"expected one value .*, such as x\[0\]"):
            shown(torch.zeros(batch))
