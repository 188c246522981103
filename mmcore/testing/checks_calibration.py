"""Whether what a modality says of its draws can be trusted: put to draws whose distribution is the truth's own, and to others."""

import torch
from torch import Tensor

from mmcore.modality.calibration import Calibration
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context, surest_and_least
from mmcore.testing.statistics import heavy, mean_bound

_ROOM = 1_000_000
"""Elements that are drawn at once."""
_FEW, _MORE = 2, 6
ROWS = 64
"""Rows of parameters of which the surest and the least sure are taken."""


def _many(c: Context, draws: int) -> int:
    """How many rows, each of so many draws and a truth."""
    elements = max(1, c.modality.spec.placeholder(1).numel())
    return max(200, min(c.profile.draws, _ROOM // (elements * (draws + 1))))


def _ask(c: Context, draws: Tensor, truth: Tensor) -> Calibration:
    """The modality's answer, of the shapes that it owes."""
    kept = draws.clone(), truth.clone()
    found = c.modality.calibration(draws, truth)
    if not (torch.equal(draws, kept[0]) and torch.equal(truth, kept[1])):
        c.fail("draws or truth changed by calibration", "both as they were")
    if not isinstance(found, Calibration):
        c.fail(f"a calibration of {type(found).__name__}", "mmcore.modality.Calibration")
    for part, name, x in found.parts():
        want = (len(truth), *Calibration.SHAPES[part])
        if not isinstance(x, Tensor) or tuple(x.shape) != want:
            c.fail(f"{part} {name!r} of {tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__}", f"{want}")
    return found


@check("calibration.rows", fault="a score averaged over the batch, or of another shape", core=False, tolerance=1e-5)
def rows(c: Context) -> None:
    """What `calibration` says of a row follows from its own draws and truth alone, and has a row's shape."""
    n = 5
    draws, truth = torch.stack([c.typical(n, 1 + k) for k in range(4)]), c.typical(n)
    whole = _ask(c, draws, truth)
    for k in range(n):
        alone = _ask(c, draws[:, k : k + 1], truth[k : k + 1])
        told = {(part, name): x for part, name, x in alone.parts()}
        for part, name, x in whole.parts():
            if (part, name) not in told:
                c.fail(f"no {part} {name!r} of sample {k} alone", "the same figures, however many samples")
            # A row of which nothing is known is NaN.
            got, want = told[part, name].double().nan_to_num(-1e6), x[k : k + 1].double().nan_to_num(-1e6)
            c.same(got, want, f"{part} {name!r} of sample {k} alone")


@check(
    "calibration.proper",
    fault="an error without the draws' spread, a spread that pays, a score that grows with fewer draws",
    core=False,
    false_alarm="1e-8 for each score beside each kind of other draws",
)
def proper(c: Context) -> None:
    """Every score is best, in expectation, for draws with the truth's own distribution, as good for few draws as for more, and some score tells others apart.

    The others have the distribution of a row that is less certain, or of the data, or are all the point, or all one draw, or all the same wrong value.
    """
    n = _many(c, _MORE)
    own, other = surest_and_least(c, c.params(ROWS))
    truth = c.draws(own, n, "truth")
    honest = _rows_of(c, own, n, _MORE, "own")
    with torch.no_grad():
        point = c.decoder().point(own)
    rivals = {
        "of a less certain row": _rows_of(c, other, n, _FEW, "other"),
        "of the data": c.typical(_FEW * n, 1).unflatten(0, (_FEW, n)),
        "all the point": point.expand(_FEW, n, *point.shape[1:]),
        "all one draw": honest[:1].expand(_FEW, *honest.shape[1:]),
    }
    few, more = _ask(c, honest[:_FEW], truth).scores, _ask(c, honest, truth).scores
    if not few:
        raise NotRun("the modality offers no score")
    wrong = _wrong(c, truth)
    told = wrong is None
    for name, score in few.items():
        if name in more:
            _hold(
                c,
                more[name] - score,
                f"score {name!r} of {_MORE} draws beside that of {_FEW}",
                size=_size(score),
                both=True,
            )
    if wrong is not None:
        rivals["always wrong"] = wrong.expand(_FEW, *wrong.shape)
    for what, draws in rivals.items():
        worse = _ask(c, draws, truth).scores
        for name, score in few.items():
            if name not in worse:
                c.fail(f"no score {name!r} of draws that are {what}", "the same scores, whatever the draws")
            gap = worse[name] - score
            told |= _hold(
                c, gap, f"score {name!r} of draws that are {what}, less that of the truth's own", size=_size(score)
            )
    if not told:
        c.fail("scores that are no worse for any other draws", "one at least that is")


@check(
    "calibration.exchangeable",
    fault="ranks that leave ties out, a confidence by the draws that chose the class",
    core=False,
    false_alarm="1e-8 for each figure",
)
def exchangeable(c: Context) -> None:
    """Where draws and truth have one distribution, ranks and depths are uniform, as many are right as confidences say, and the predicted variance is the error's."""
    M = 5
    n = _many(c, M)
    told = False
    # Of any row, and of one with much to be sure or unsure about.
    for k, params in enumerate((c.params(1), surest_and_least(c, c.params(ROWS))[1])):
        drawn = _rows_of(c, params, n, M + 1, f"all {k}")
        found = _ask(c, drawn[:M], drawn[M])
        if not (found.ranks or found.depths or found.reliability or found.spreads):
            raise NotRun("the modality offers neither ranks, depths, confidences nor spreads")
        told |= _exchanged(c, found)
    if not told:
        raise NotRun("not decided: single draws make up the mean of every figure")


def _exchanged(c: Context, found: Calibration) -> bool:
    """Hold all that has a known mean where draws and truth have one distribution; whether there was any that could be judged."""
    told = False
    for kind in ("ranks", "depths"):
        for name, x in getattr(found, kind).items():
            shares = x.double() / x.sum(1, keepdim=True)
            gap = (shares - 1 / shares.shape[1])[x.sum(1) > 0]
            _hold(c, gap, f"{kind} {name!r}, a bin's share less an even one", both=True)
            told |= len(gap) > 1
    for name, x in found.reliability.items():
        gap = (x[..., 2] - x[..., 1]).double()
        _hold(c, gap, f"confidence {name!r}, how many are right less the confidences", both=True)
        told = True
    for name, x in found.spreads.items():
        gap = (x[:, :1] - x[:, 1:]).double()
        if not heavy(gap[~gap.isnan().any(1)]).any():
            _hold(c, gap, f"spread {name!r}, the predicted variance less the square error", size=_size(x), both=True)
            told = True
    return told


def _rows_of(c: Context, params: Tensor, n: int, draws: int, purpose: str) -> Tensor:
    """``(draws, n, *spec.shape)`` of one row of parameters."""
    return c.draws(params, draws * n, purpose).unflatten(0, (draws, n))


def _wrong(c: Context, truth: Tensor) -> Tensor | None:
    """A sample of the data that each truth is not, ``(n, *spec.shape)``; None where all data are alike."""
    pool = c.typical(512, 2)
    other = (pool != pool[:1]).reshape(len(pool), -1).any(1).nonzero()
    if not len(other):
        return None
    same = (truth == pool[:1]).reshape(len(truth), -1).all(1).reshape(-1, *[1] * (truth.ndim - 1))
    return torch.where(same, pool[other[0]], pool[:1])


def _hold(c: Context, gap: Tensor, what: str, *, size: float = 1.0, both: bool = False) -> bool:
    """Fail where the mean of ``gap (n, …)`` lies below 0, or with ``both`` away from it; whether it lies above. ``size`` is of what it rounds."""
    gap = gap.reshape(len(gap), -1)
    gap = gap[~gap.isnan().any(1)].double()
    if len(gap) < 2:
        return False
    mean, bound = gap.mean(0), mean_bound(gap) + 1e-9 * size
    wrong = mean.abs() > bound if both else mean < -bound
    if wrong.any():
        at = int(wrong.nonzero()[0])
        c.fail(
            f"{what}: {float(mean[at]):.4g} on average (± {float(bound[at]):.2g}) over {len(gap)} rows",
            "0" if both else "at least 0",
        )
    return bool((mean > bound).any())


def _size(x: Tensor) -> float:
    """How large figures are."""
    return float(x.double().nan_to_num().abs().max())
