"""What is refused, and that the message says what was found and what was expected."""

import math
import re

import pytest
import torch

from mmcore.process import Process, Schedule, schedule

B, N, Z, T = 2, 3, (4, 5), 10
CASES = ("marginal", "transition", "posterior")


@pytest.fixture
def process():
    """A process that starts at zero, so that a base state may be given."""
    return Process(schedule.paper(T, N))


def codes(*shape, dtype=torch.float32):
    return torch.zeros(shape or (B, N, *Z), dtype=dtype)


def call(process, method, encodings, s=2, t=5, z=None, z0=None, h=None):
    """One of the three distributions with a default for what is not the matter of the test."""
    if method == "marginal":
        return process.marginal(encodings, t, z0, h=None if h is None else h[1])
    return getattr(process, method)(codes(B, *Z) if z is None else z, encodings, s, t, z0, h=h)


@pytest.mark.parametrize("method", CASES[1:])
@pytest.mark.parametrize(("s", "t", "row"), [([1, 5], [3, 5], 1), ([6, 0], [5, 3], 0), ([0, 10], [1, 9], 1)])
def test_s_not_below_t(process, method, s, t, row):
    with pytest.raises(ValueError, match=rf"s = {s[row]} and t = {t[row]} in row {row}, expected s < t"):
        call(process, method, codes(), torch.tensor(s), torch.tensor(t))
    with pytest.raises(ValueError, match=rf"s = {s[row]} and t = {t[row]} in row 0, expected s < t"):
        call(process, method, codes(), s[row], t[row])


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("t", [-1, 11, 1000])
def test_t_out_of_range(process, method, t):
    with pytest.raises(ValueError, match=rf"t = {t} in row 1, expected 0 … T = 10"):
        call(process, method, codes(), t=torch.tensor([5, t]))
    with pytest.raises(ValueError, match=rf"t = {t} in row 0, expected 0 … T = 10"):
        call(process, method, codes(), t=t)


@pytest.mark.parametrize("method", CASES[1:])
def test_s_out_of_range(process, method):
    with pytest.raises(ValueError, match=r"s = -1 in row 1, expected 0 … T = 10"):
        call(process, method, codes(), torch.tensor([0, -1]), torch.tensor([5, 5]))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool, torch.complex64])
def test_dtype_of_t(process, method, dtype):
    with pytest.raises(ValueError, match=rf"t has dtype {dtype}, expected an integer dtype"):
        call(process, method, codes(), t=torch.ones(B, dtype=dtype))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_dtype_of_t(process, method, dtype):
    found = call(process, method, codes(), t=torch.full((B,), 5, dtype=dtype))
    assert torch.equal(found.mean, call(process, method, codes()).mean)


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (B, 1)])
def test_shape_of_t(process, method, shape):
    with pytest.raises(ValueError, match=r"t has shape \(.*\), expected \(B,\) = \(2,\)"):
        call(process, method, codes(), t=torch.full(shape, 5))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("t", [2.5, "3", None])
def test_type_of_t(process, method, t):
    with pytest.raises(ValueError, match=r"t .*expected"):
        call(process, method, codes(), t=t)


@pytest.mark.parametrize("method", CASES[1:])
@pytest.mark.parametrize("shape", [(B, 4), (B, 5, 4), (1, 4, 5), (B, 1, 4, 5), (4, 5)])
def test_shape_of_z(process, method, shape):
    with pytest.raises(ValueError, match=r"z has shape \(.*\), expected \(B, \*Z\) = \(2, 4, 5\)"):
        call(process, method, codes(), z=codes(*shape))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("shape", [(B, 2, *Z), (B, 4, *Z), (B,), (B, *Z), (B, 0, *Z)])
def test_shape_of_encodings(process, method, shape):
    with pytest.raises(ValueError, match=r"encodings have shape \(.*\), expected \(B, N, \*Z\) with N = 3"):
        call(process, method, codes(*shape))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("shape", [(B, 4), (1, *Z), (B, 1, *Z), Z])
def test_shape_of_z0(process, method, shape):
    with pytest.raises(ValueError, match=r"z0 has shape \(.*\), expected \(B, \*Z\) = \(2, 4, 5\)"):
        call(process, method, codes(), z0=codes(*shape))


@pytest.mark.parametrize("method", CASES[1:])
def test_shape_of_h_t(process, method):
    with pytest.raises(ValueError, match=r"shape \(2, 4, 5\).* \(2, 4\)|shape \(2, 4\).* \(2, 4, 5\)"):
        call(process, method, None, h=(codes(B, *Z), codes(B, 4)))


@pytest.mark.parametrize("method", CASES[1:])
@pytest.mark.parametrize("shape", [(1, *Z), (B, 1, 5), (5,), (B, 1, *Z)])
def test_shape_of_h_s(process, method, shape):
    with pytest.raises(ValueError, match=r"shape \(.*expected"):
        call(process, method, None, h=(codes(*shape), codes(B, *Z)))


@pytest.mark.parametrize("what", ["encodings", "z", "z0", "h"])
@pytest.mark.parametrize("method", CASES[1:])
def test_integer_values(process, method, what):
    whole = torch.ones(B, *Z, dtype=torch.long)
    given = {
        "encodings": {"encodings": torch.ones(B, N, *Z, dtype=torch.long)},
        "z": {"encodings": codes(), "z": whole},
        "z0": {"encodings": codes(), "z0": whole},
        "h": {"encodings": None, "h": (whole, whole)},
    }[what]
    with pytest.raises(ValueError, match=r"dtype torch.int64, expected"):
        call(process, method, **given)


@pytest.mark.parametrize("what", ["encodings", "z0", "h"])
def test_mixed_dtypes(process, what):
    z = codes(B, *Z, dtype=torch.float64)
    given = {
        "encodings": {"encodings": codes(), "z": z},
        "z0": {"encodings": codes(dtype=torch.float64), "z": z, "z0": codes(B, *Z)},
        "h": {"encodings": None, "z": z, "h": (codes(B, *Z), codes(B, *Z))},
    }[what]
    with pytest.raises(ValueError, match=r"dtype torch.float.*expected"):
        call(process, "posterior", **given)


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_base_state_of_a_process_that_starts_at_the_encodings(method, name):
    process = Process(schedule.NAMED[name](T, N))
    with pytest.raises(
        ValueError, match=rf"z0 given, but the schedule '{name}' starts at the encodings .*expected one"
    ):
        call(process, method, codes(), z0=codes(B, *Z))


@pytest.mark.parametrize("method", CASES[1:])
@pytest.mark.parametrize(("encodings", "parts"), [(None, "h_t"), (None, "h_s"), (codes(), "h_s"), (codes(), "h_t")])
def test_one_of_h_s_and_h_t_alone(process, method, encodings, parts):
    h = (codes(B, *Z), None) if parts == "h_s" else (None, codes(B, *Z))
    with pytest.raises(ValueError, match=r"process: h = .*, expected the pair \(h_s, h_t\)"):
        call(process, method, encodings, h=h)
    with pytest.raises(ValueError, match=r"process: h = Tensor, expected the pair \(h_s, h_t\)"):
        call(process, method, None, h=codes(B, *Z))


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(B, 1, 1), (1, *Z), (3, B, *Z), (*Z,), ()])
def test_shape_of_noise(process, shape, eta):
    z = codes(B, *Z)
    message = re.escape(f"process: noise has shape {shape}, expected (B, *Z) = {(B, *Z)}")
    with pytest.raises(ValueError, match=message):
        process.step(z, z, z, 2, 5, torch.zeros(shape), eta)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_dtype_of_noise(process, dtype):
    z = codes(B, *Z)
    with pytest.raises(ValueError, match=f"process: noise has dtype {dtype}, expected"):
        process.step(z, z, z, 2, 5, torch.zeros(B, *Z, dtype=dtype), 0.5)


@pytest.mark.parametrize("noise", [torch.zeros(1, *Z), torch.zeros(B, *Z, dtype=torch.float64), torch.zeros(3, B, *Z)])
@pytest.mark.parametrize("method", CASES)
def test_noise_of_a_draw(process, method, noise):
    with pytest.raises(ValueError, match=r"process: noise is torch.float.* expected \(B, \*Z\) = torch.float32"):
        call(process, method, codes(), torch.tensor([2, 3]), torch.tensor([5, 6])).draw(noise)


@pytest.mark.parametrize("eta", ["1", None, math.nan, -0.1, 1.1, torch.tensor(0.5)])
def test_eta(process, eta):
    z = codes(B, *Z)
    with pytest.raises(ValueError, match=r"process: eta = .*, expected 0 … 1"):
        process.step(z, z, z, 2, 5, z, eta)


@pytest.mark.parametrize("method", CASES)
def test_both_of_encodings_and_h(process, method):
    with pytest.raises(ValueError, match="both of encodings and h given, expected exactly one"):
        call(process, method, codes(), h=(codes(B, *Z), codes(B, *Z)))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("base", [False, True])
def test_neither_of_encodings_and_h(process, method, base):
    with pytest.raises(ValueError, match="neither of encodings and h given, expected exactly one"):
        call(process, method, None, z0=codes(B, *Z) if base else None)


# ---- schedules ----


@pytest.mark.parametrize("name", sorted(schedule.NAMED))
@pytest.mark.parametrize("gains", [[1.0], [1.0] * 4, [], [[1.0, 1.0, 1.0]]])
def test_length_of_gains(name, gains):
    with pytest.raises(ValueError, match=r"gains has shape \(.*\), expected one number per modality, \(3,\)"):
        schedule.NAMED[name](T, N, gains)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_length_of_powers(name):
    with pytest.raises(ValueError, match=r"powers has shape \(2,\), expected one number per modality, \(3,\)"):
        schedule.NAMED[name](T, N, None, [1.0, 2.0])


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_values_of_gains_and_powers(name, bad):
    for what in ("gains", "powers"):
        with pytest.raises(ValueError, match=rf"{what} is \[1.0, .*\], expected finite numbers above 0"):
            schedule.NAMED[name](T, 2, **{what: [1.0, bad]})


@pytest.mark.parametrize("name", sorted(schedule.NAMED))
@pytest.mark.parametrize(("steps", "modalities"), [(0, 1), (-1, 1), (10, -1)])
def test_size(name, steps, modalities):
    what, value, least = ("steps", steps, 1) if steps < 1 else ("modalities", modalities, 0)
    with pytest.raises(ValueError, match=f"{what} = {value}, expected a whole number of at least {least}") as refused:
        schedule.NAMED[name](steps, modalities)
    assert (refused.value.option, refused.value.value) == (what, value)


LOG_A = [0.0, -0.1, -0.3]


@pytest.mark.parametrize(
    ("log_A", "W", "message"),
    [
        ([0.0], torch.ones(1, 2), r"log_A has shape \(1,\), expected \(T\+1,\) with T ≥ 1"),
        ([LOG_A], torch.ones(3, 2), r"log_A has shape \(1, 3\), expected \(T\+1,\)"),
        (LOG_A, torch.ones(2, 2), r"W has shape \(2, 2\), expected \(T\+1, N\) = \(3, N\)"),
        (LOG_A, torch.ones(4, 2), r"W has shape \(4, 2\), expected \(T\+1, N\) = \(3, N\)"),
        (LOG_A, torch.ones(3), r"W has shape \(3,\), expected \(T\+1, N\) = \(3, N\)"),
        ([0.0, math.nan, -1.0], torch.ones(3, 2), "log_A holds NaN or infinity, expected finite"),
        ([0.0, -1.0, -math.inf], torch.ones(3, 2), "log_A holds NaN or infinity, expected finite"),
        (LOG_A, torch.full((3, 2), math.nan), "W holds NaN or infinity, expected finite"),
        (LOG_A, torch.full((3, 2), math.inf), "W holds NaN or infinity, expected finite"),
        ([-0.5, -0.6, -0.7], torch.ones(3, 2), r"log_A\[0\] is -0.5, expected 0"),
        (
            [0.0, -0.2, -0.2],
            torch.ones(3, 2),
            r"log_A does not decrease at t = 2 \(-0.2 to -0.2\), expected 0 < a_t",
        ),
        ([0.0, 0.1, -0.2], torch.ones(3, 2), r"log_A does not decrease at t = 1 \(0 to 0.1\), expected 0 < a_t < 1"),
    ],
)
def test_cumulative_tables(log_A, W, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_cumulative(log_A, W)


@pytest.mark.parametrize(
    ("a", "w", "W0", "message"),
    [
        ([], torch.ones(0, 2), None, r"a has shape \(0,\), expected \(T,\) with T ≥ 1"),
        ([[0.5, 0.5]], torch.ones(2, 2), None, r"a has shape \(1, 2\), expected \(T,\)"),
        ([0.5, 0.5], torch.ones(3, 2), None, r"w has shape \(3, 2\), expected \(T, N\) = \(2, N\)"),
        ([0.5, 0.5], torch.ones(2), None, r"w has shape \(2,\), expected \(T, N\) = \(2, N\)"),
        ([0.5, 0.5], torch.ones(2, 2), [1.0], r"W0 has shape \(1,\), expected \(N,\) = \(2,\)"),
        ([0.5, 1.0], torch.ones(2, 2), None, r"a\[1\] is 1, expected 0 < a_t < 1"),
        ([0.0, 0.5], torch.ones(2, 2), None, r"a\[0\] is 0, expected 0 < a_t < 1"),
        ([0.5, -0.5], torch.ones(2, 2), None, r"a\[1\] is -0.5, expected 0 < a_t < 1"),
        ([0.5, math.nan], torch.ones(2, 2), None, r"a\[1\] is nan, expected 0 < a_t < 1"),
        ([0.5, 0.5], torch.full((2, 2), math.nan), None, "W holds NaN or infinity, expected finite"),
        ([0.5, 0.5], torch.ones(2, 2), [1.0, math.inf], "W holds NaN or infinity, expected finite"),
    ],
)
def test_step_tables(a, w, W0, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_steps(a, w, W0)


def test_step_smaller_than_the_last_digit_is_no_step():
    """A step that ``log A`` cannot resolve is refused rather than made of variance 0."""
    with pytest.raises(ValueError, match="log_A does not decrease at t = 2"):
        Schedule.from_steps([1e-5, 1 - 1e-16], torch.ones(2, 1))
