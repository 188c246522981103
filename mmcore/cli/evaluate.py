"""``mmcore evaluate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.cli.common import Device, options_of, registry_of, say
from mmcore.errors import RequestError


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run's folder, or a model folder.")],
    source: Annotated[
        str | None, typer.Option(help="Where rows come from, a source by its name; by default the run's held-out rows.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option=value of --source, as TOML.")] = None,
    observed: Annotated[list[str] | None, typer.Option(help="Condition on this variable; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Draws of t and noise per row, an even number.")] = 16,
    limit: Annotated[
        int | None,
        typer.Option(
            "--rows", min=1, help="At most so many rows, spread evenly; by default all, and 200 for --calibration."
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--metrics", help="Also ask the model, and measure its answers beside the rows.")
    ] = False,
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration",
            help="Also ask each row many times, and tell whether the draws are spread as the truth is: --answers × --rows samples of each question.",
        ),
    ] = False,
    ask: Annotated[
        list[str] | None,
        typer.Option(
            help="With --metrics or --calibration: joint, or such as 'image->label'; may be repeated. By default each variable from all others."
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="With --calibration: draws of each answer, by default 39, the fewest that tell 95 % intervals; 9 tell those of 80 %.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="With --metrics: SqueezeNet's, a safetensors file, for LPIPS and the distances of sets.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="With --metrics or --calibration: of the sampler; by default as the run samples."),
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of the draws and samples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The variational bound of rows by its parts, with the error of its estimate; figures of the model's answers, with intervals; and their calibration.

    Of a run's own rows, figures and calibration are kept in RUN/evaluation.json and RUN/calibration.json, and RUN/report.html shows both.
    """
    registry = registry_of(context)
    import json

    from mmcore import metrics
    from mmcore.config import SamplingOptions
    from mmcore.data import Table
    from mmcore.metrics.bound import evaluate
    from mmcore.metrics.draws import DRAWS, ROWS
    from mmcore.model.devices import pick_device
    from mmcore.plugins.loading import tell
    from mmcore.runs import calibrated as kept_calibration
    from mmcore.runs import evaluated, report
    from mmcore.runs.run import Run, rows_with
    from mmcore.store.model import load

    if set_ and source is None:
        raise RequestError("--set belongs to --source, which is not given; expected both or neither")
    either = "--metrics or --calibration"
    for option, given, owner, there in (
        ("--ask", ask, either, figures or calibration),
        ("--weights", weights, "--metrics", figures),
        ("--steps", steps, either, figures or calibration),
        ("--answers", answers, "--calibration", calibration),
    ):
        if given and not there:
            raise RequestError(f"{option} belongs to {owner}, which is not given; expected both or neither")
    how: dict[str, Any]
    own = source is None
    if own and calibration:
        kept_calibration.RECORD.check_own(run)
    if own and figures:
        evaluated.RECORD.check_own(run)
    if source is None:
        opened = Run.open(run, registry)
        model, how = opened.model(device), opened.setup.config.sampling.how()
        held, part = opened.held_out()
        rows = Table.read(rows_with(held, model))
        what = f"the run's {part} data"
    else:
        model, how = load(run, registry=registry, device=str(pick_device(device))), SamplingOptions().how()
        rows = Table.read(registry.source(source, **options_of(set_ or [])), model.variables)
        what = source
    rows = rows.spread(limit or len(rows))
    found = evaluate(model, rows, observed=observed or (), draws=draws, seed=seed)
    how |= {"seed": seed} | ({} if steps is None else {"steps": steps})
    measured = metrics.report(model, rows, ask, weights=weights, **how) if figures else {}
    if own and figures:
        evaluated.save(run, model, measured, evaluated.Beside.ask(model, rows, **how), what, how)
    calibrated = None
    if calibration:
        # Joint samples have no truth, and are measured beside the others.
        texts = [text for text in ask if text.strip() != "joint"] if ask and figures else ask
        counts = {"draws": answers or DRAWS, "rows": limit or ROWS}
        # As many draws are always asked, whatever a run's own samples are.
        calibrated = metrics.calibration(model, rows, texts or ask, quiet=as_json, **counts, **{**how, "draw": True})
        if own:
            kept_calibration.save(run, calibrated, what)
    if own and (figures or calibration) and (run / report.PAGE).exists():
        report.write(run, tell)
    if as_json:
        told = found.json() | {"metrics": {name: one.json() for name, one in measured.items()}}
        say(json.dumps(told if calibrated is None else told | {"calibration": calibrated.json()}, indent=2))
        return
    observing = f", given {', '.join(found.observed)}" if found.observed else ""
    say(f"bound on -log p over {found.rows} rows of {what}{observing}; ± is the standard error of its estimate\n")
    say(found.table())
    if found.space >= 0.00005:  # what the table's four digits would show
        say(
            f"\nL0 of all is {found.space:.4g} nats above the sum of the variables: at T the noise of the space is not quite of unit variance"
        )
    if measured:
        taken = "" if how["steps"] is None else f", in {how['steps']} steps"
        say(f"\nanswers beside the rows{taken}; in brackets the 95 % interval over the samples\n")
        say(metrics.table(measured))
    if calibrated is not None:
        say(f"\n{calibrated.draws} draws of each answer beside its row; in brackets the 95 % interval over the rows\n")
        say(kept_calibration.table(calibrated))
