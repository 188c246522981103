"""What a run's model answers: joint samples in two ways, and everything of one to four views; views as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mmcore
from benchmarks.kinds.figures import Trained
from benchmarks.views.coherence import Rows, figures, subsets
from benchmarks.views.data import NAMES, VIEWS, views
from mmcore.data.sources.digits import Digits
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure

MOST = 200
"""Held-out rows that are asked about, and joint samples."""
REAL = 2000
"""Rows of training scans that Fréchet distances are to."""
GIVEN = (1, 2, 3, 4)


def real(part: str, n: int, seed: int) -> dict[str, Tensor]:
    """Rows of a part's scans as a model's values, pictures in -1 … 1; of ``("test", n, 2)`` those that are written as test rows."""
    rows = {name: torch.from_numpy(x) for name, x in views(Digits(part), n, seed).items()}
    return {name: x if name == "label" else x.float() / 127.5 - 1 for name, x in rows.items()}


def sample(trained: Trained, n: int, **question: Any) -> dict[str, Tensor]:
    """An answer as the recipe says, whose views are pictures: latents are decoded by their autoencoders."""
    model = trained.reader.model
    rows = mmcore.sample(model, n, **{**trained.reader.asking(), **question})
    found = {name: rows[name] for name in NAMES if name in rows}
    for view in [view for view in VIEWS if view in rows]:
        decoded = model.variable(view).pictured(rows[view])
        found[view] = rows[view] if decoded is None else decoded
    return found


def joint(trained: Trained, n: int) -> dict[str, Rows]:
    """Joint samples: all at once; by the chain rule, the label first and then the views of it; and each view of the label by itself.

    The last takes views for independent of each other given the label. These are, and rows that lack most values ask little else.
    """
    first = mmcore.sample(trained.reader.model, n, **{**trained.reader.asking(), "absent": VIEWS, "seed": 1})["label"]
    apart: dict[str, Tensor] = {"label": first}
    for k, view in enumerate(VIEWS):
        others = [name for name in VIEWS if name != view]
        apart[view] = sample(trained, n, seed=k, given={"label": first}, absent=others)[view]
    return {
        "at once": sample(trained, n, seed=0),
        "label first": sample(trained, n, seed=0, given={"label": first}),
        "views apart": apart,
    }


def conditional(trained: Trained, n: int) -> dict[int, tuple[Rows, Tensor]]:
    """By how many views are given, what held-out rows are answered, and which views each was given."""
    found = {}
    for k in GIVEN:
        shown = subsets(k, n)
        where = {view: shown[:, column] for column, view in enumerate(VIEWS)}
        found[k] = sample(trained, n, seed=k, given={view: trained.rows[view] for view in VIEWS}, where=where), shown
    return found


def written(path: Path) -> tuple[dict[str, Rows], dict[int, tuple[Rows, Tensor]]]:
    """The answers that ``benchmarks/views/vaes.py`` wrote: joint samples, and what is answered to held-out views."""
    parts: dict[str, dict[str, Tensor]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            part, name = key.split("/")
            x = torch.from_numpy(arrays[key])
            parts.setdefault(part, {})[name] = x.float() / 127.5 - 1 if name in VIEWS else x
    conditional: dict[int, tuple[Rows, Tensor]] = {
        int(part): (rows, rows.pop("given")) for part, rows in parts.items() if part.isdigit()
    }
    return {part: rows for part, rows in parts.items() if not part.isdigit()}, conditional


def measure(path: Path, classify: Judge) -> dict[str, Figure | float]:
    """All figures of a run's model, or of answers in an ``.npz``."""
    if path.suffix == ".npz":
        samples, answers = written(path)
        n = max(len(shown) for _, shown in answers.values())
    else:
        trained = Trained.of(path, MOST)
        n = len(trained.rows["label"])
        samples, answers = joint(trained, n), conditional(trained, n)
    return figures(classify, samples, answers, real("test", n, 2), real("train", REAL, 9))
