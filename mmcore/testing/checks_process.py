"""The plugin in a process of its own: what does not survive a saved model that is loaded elsewhere."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, WIDTH, Context
from mmcore.testing.made import answers_of, reads_of
from mmcore.testing.snippet import maker
from mmcore.testing.surroundings import LONGEST

MADE = "the modality was made"
CHILD = """
import json, sys
sys.path[:] = json.loads({path!r})
import torch
torch.set_num_threads(1)
torch.manual_seed({seed})
{imports}
{lines}
print({made!r}, flush=True)
from mmcore.space import Space
from mmcore.testing.made import answers_of, others, reads_of
WIDTH, SPACE = {width}, Space({space})
given = torch.load({given!r}, weights_only=True)
others(modality)
decoder = modality.decoder(WIDTH, SPACE)
answers = answers_of(modality, given["x"], given["params"], decoder, given["seed"])
answers["typical samples"] = modality.typical(4, given["seed"])
answers.update(reads_of(modality, given["raws"]))
{lines}
again = answers_of(modality, given["x"], given["params"], modality.decoder(WIDTH, SPACE), given["seed"])
answers.update((name + " of one made after others", value) for name, value in again.items())
torch.save(answers, {answer!r})
"""


@check(
    "state.process",
    fault="a codebook drawn as a module is imported, classes numbered by a set's order, a table or a size of the class made by whoever comes first or last",
    core=False,
    tolerance=1e-5,
)
def process(c: Context) -> None:
    """In a new process it gives the same codes, losses, points and draws, and reads the same of raw values, whatever was drawn, imported or made there before.

    There the global generators and the order of sets are others, and modalities with other options are made first.
    """
    own = maker(c.thing, "modality")
    if own is None:
        raise NotRun("it cannot be made by name in another process")
    x, params = c.typical(6), c.params(6)
    want = answers_of(c.modality, x, params, c.modality.decoder(WIDTH, SPACES[1]), c.seed)
    want["typical samples"] = c.modality.typical(4, c.seed)
    raws = torch.empty(0, dtype=torch.uint8)
    # Of words, numbers and lists of them, in whose reading an order may be hidden; a raw that fails is other checks' affair.
    with contextlib.suppress(Exception):
        raws = torch.tensor(list(json.dumps([c.modality.raw(row) for row in x.cpu()]).encode()), dtype=torch.uint8)
    want |= reads_of(c.modality, raws)
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.pt", Path(folder) / "answer.pt"
        torch.save({"x": x, "params": params, "seed": c.seed, "raws": raws}, given)
        code = CHILD.format(path=json.dumps(sys.path), imports="\n".join(own[0]), lines="\n".join(own[1]), given=str(given), answer=str(answer), seed=c.seed + 13, made=MADE, width=WIDTH, space=tuple(SPACES[1].shape))  # fmt: skip
        # Another order of sets than here, where it may be any.
        before = os.environ.get("PYTHONHASHSEED", "random")
        environment = {**os.environ, "PYTHONHASHSEED": "1" if before != "1" else "2"}
        try:
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LONGEST, env=environment)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotRun(f"not decided: another process was not done after {LONGEST} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
            if MADE not in done.stdout.splitlines():
                raise NotRun(f"it could not be made in another process: {last}")
            c.fail(f"an error in another process, where it was made: {last}", "the answers that it gives here")
        there = torch.load(answer, weights_only=True)
    for name, got in there.items():
        if (known := name.removesuffix(" of one made after others")) in want:
            c.same(got, want[known], f"{name} in another process")
