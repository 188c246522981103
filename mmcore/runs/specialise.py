"""A run's model, trained further on one question alone, as a run of its own."""

from pathlib import Path

import attrs

from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.model.growing import another
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.runs.run import CONFIG, Run, train
from mmcore.training.specialise import SHARE, for_question


def specialise(
    run: str | Path,
    ask: str,
    *,
    out: str | Path,
    registry: Registry,
    share: float = SHARE,
    replace: bool = False,
    quiet: bool = False,
) -> Path:
    """Train a run's model further on one question alone, into a folder of its own; its own run is left as it is.

    Args:
        run: its folder.
        ask: the question, such as ``"image -> label"``.
        out: the new run's folder.
        registry: of plugins.
        share: of the run's steps, how many are made.
        replace: remove the run that ``out`` holds.
        quiet: show no progress.

    Returns:
        the new run's folder.

    Raises:
        RequestError: a folder that is no finished run, a question that its model cannot be asked, or ``out`` is the run itself.
    """
    opened = Run.open(run, registry)
    out = expanded(out)
    if out.resolve() == opened.folder.resolve():
        raise RequestError(f"specialise: --out {out} is the run itself, expected another folder: its model is kept")
    model, config = opened.model("cpu"), opened.setup.config
    _check_same(opened, model)
    training = for_question(ask, share, config.training)
    training.roles.asked(model.variables, model.driver.generable, model.driver.encoded)
    # It begins with the run's own weights, wherever those began, all of which learn.
    composed = attrs.evolve(config.model, grows_from=str(opened.folder.resolve() / "model"))
    training = attrs.evolve(training, learns="all")
    changed = attrs.evolve(opened.setup, config=attrs.evolve(config, out=str(out), model=composed, training=training))
    return train(changed, replace=replace, quiet=quiet)


def _check_same(run: Run, model: JointModel) -> None:
    """Refuse a configuration that was changed since: to values of another mean, say, the weights would fit and mean something else.

    Raises:
        RequestError: naming what differs.
    """
    said = {m.name: m for m in run.setup.variables}
    for m in model.variables:
        if difference := another(m, said[m.name]) if m.name in said else "been left out":
            raise RequestError(
                f"specialise: in {run.folder / CONFIG} {m.name} has {difference} since the model was trained; expected the configuration, and the files that it names, as they were then"
            )
