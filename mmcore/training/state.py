"""The training state: model, optimizer, EMA and step."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import attrs
import torch
from torch import Tensor, nn

from mmcore.data import TensorBatch
from mmcore.errors import OptionError, RequestError, plainly
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating
from mmcore.rng import Rng
from mmcore.training.draws import Drawing, Draws, draws_globally
from mmcore.training.finite import Finding, explain
from mmcore.training.learning import fresh_columns
from mmcore.training.options import TASK_WEIGHTS, TrainOptions
from mmcore.training.precision import WHOLE, Call, Compiled, Scaler, plain
from mmcore.training.ranks import Ranks, is_sharded, local_shard, parallelize
from mmcore.training.timesteps import Timesteps
from mmcore.training.weighting import WEIGHTINGS, FixedWeights, LearnedWeights


@attrs.define(eq=False, repr=False)
class TrainState:
    """Model, optimizer, EMA and step: what a checkpoint holds.

    Attributes:
        model: being trained.
        network: what to call for the model's forward pass: the model, or DDP around it.
        optimizer: AdamW over the trainable weights.
        ema: the exponential moving average of the weights, by parameter name.
        task_weights: the factors of the tasks' losses.
        options: how to train.
        ranks: who trains together.
        scaler: of the loss, in ``fp16``.
        shares: ``(kinds,)``, the declared share of each kind of row.
        fault: ``()``, on the device, 1 from a step that was not finite until this is read: no step is taken meanwhile.
        timesteps: draws them by question; None where they are even.
        draws_globally: whether a part may draw from torch's global generator.
        sharded: whether weights lie in parts on several ranks.
        step: how many steps are done.
        best: the lowest validation loss so far.
        finding: of the last step, where nobody has read yet whether it was finite.
        compiled: a part of a step as it is run.
    """

    model: JointModel
    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor]
    task_weights: FixedWeights | LearnedWeights
    options: TrainOptions
    ranks: Ranks
    scaler: Scaler
    shares: Tensor
    fault: Tensor
    timesteps: Timesteps | None = None
    draws_globally: bool = False
    sharded: bool = False
    step: int = 0
    best: float = math.inf
    finding: Finding | None = None
    compiled: Callable[[Call], Call] = plain
    _drawing: Drawing | None = attrs.field(default=None, init=False, repr=False)

    def __repr__(self) -> str:
        names = ", ".join(m.name for m in self.model.variables)
        return plainly(f"<TrainState: step {self.step:,} of {self.options.steps:,}, of {names}>")

    def draws(self, batch: TensorBatch) -> Draws:
        """Draw timesteps, roles and conditioning augmentation of this step, for this rank's rows."""
        count, device, options = len(batch), batch.present.device, self.options
        drawing = self._drawing
        if drawing is None or len(drawing.rng.rows) != count or drawing.rng.rows.device != device:
            rng = Rng.for_rows(options.seed, count, start=self.ranks.rank * count, device=device)
            weighting = WEIGHTINGS[options.weighting]
            drawing = self._drawing = Drawing(self.model, weighting, options.roles, rng, self.timesteps)
        return drawing(self.step, batch)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Seed torch's global generators for this step, so that a resumed run draws the same numbers again."""
        if not self.draws_globally:
            yield
            return
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            mine = Rng.for_rows(self.options.seed, 1, start=self.ranks.rank).of("global").at(self.step)
            torch.manual_seed(int(mine.bits(1)))
            yield

    @classmethod
    def start(cls, model: JointModel, options: TrainOptions, ranks: Ranks | None = None) -> Self:
        """The training state before the first step; several ranks start it together, with equal weights.

        Raises:
            RequestError: nothing of the model learns.
        """
        ranks = ranks or Ranks()
        # Before anything is sharded: encoders are asked for codes.
        timesteps = Timesteps.asked(model, options.timesteps, options.weighting)
        weights = TASK_WEIGHTS[options.task_weights](model).to(model.device)
        network = parallelize(model, ranks, options.parallel, model.device)
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise RequestError(
                "training: no weight of the model learns, expected one at least with requires_grad = True"
            )
        sharded = [p for p in trainable.values() if is_sharded(p)]
        unsharded = [*(p for p in trainable.values() if not is_sharded(p)), *weights.parameters()]
        # What went over in part and does not learn as a whole must not be decayed either.
        partial = fresh_columns(model, options.learns)
        matrices = {id(p) for name, p in trainable.items() if p.ndim > 1 and name not in partial}
        # The optimizer's fused kernels take sharded and other tensors, but not at once.
        groups = [
            {"params": group, "weight_decay": decay}
            for kind in (sharded, unsharded)
            for decay, chosen in ((options.weight_decay, True), (0.0, False))
            if (group := [p for p in kind if (id(p) in matrices) == chosen])
        ]
        whole = options.compile in WHOLE
        # In a graph a number is part of the graph, a tensor is not.
        lr = torch.tensor(options.lr, dtype=torch.float32, device=model.device) if whole else options.lr
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=options.betas, fused=True)
        ema = {name: p.detach().clone() for name, p in trainable.items()}
        shares = torch.tensor(options.roles.shares, device=model.device)
        scaler, own = Scaler.start(options.precision), draws_globally(model)
        fault = torch.zeros((), dtype=torch.float32, device=model.device)
        if not sharded:  # beside which the kernel takes neither
            optimizer.found_inf, optimizer.grad_scale = fault, torch.ones_like(fault)  # type: ignore[attr-defined]
        state = cls(
            model,
            network,
            optimizer,
            ema,
            weights,
            options,
            ranks,
            scaler,
            shares,
            fault,
            timesteps,
            own,
            bool(sharded),
        )
        if whole:
            _check_whole(state)
            state.compiled = Compiled(str(options.compile))
        return state

    def settle(self) -> None:
        """Wait for the last step, where nobody has; then the state is that after ``step`` good steps.

        Raises:
            MmcoreError: it was not finite, and no step since was taken; ``step`` is its number.
        """
        finding, self.finding = self.finding, None
        if finding is not None and not finding.good():
            self.step = finding.step
            self.fault.zero_()
            explain(self.model, self.ranks, finding)

    def named(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name: the model's, and ``task_weights/…``."""
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return trained | {f"task_weights/{name}": p for name, p in self.task_weights.named_parameters()}

    def use_average(self) -> None:
        """Copy the EMA weights into the model."""
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if name in self.ema:
                    local_shard(p).copy_(local_shard(self.ema[name]))

    @contextmanager
    def averaged(self) -> Iterator[JointModel]:
        """Within, the model in evaluation mode with its EMA weights; the trained weights come back afterwards, bit by bit."""
        kept = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in self.ema}
        self.use_average()
        try:
            with evaluating(self.model):
                yield self.model
        finally:
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    if name in kept:
                        local_shard(p).copy_(local_shard(kept[name]))


def _check_whole(state: TrainState) -> None:
    """Refuse what a step that is compiled as a whole cannot do.

    Raises:
        OptionError: naming it.
    """
    options = state.options
    if options.precision == "fp16":
        raise OptionError("training", "precision", "fp16", "bf16 or float32", beside=("compile",))
    if state.ranks.count > 1:
        raise OptionError("training", "compile", options.compile, "true or false with several ranks")
    if options.activation_checkpointing:
        raise OptionError("training", "activation_checkpointing", True, "false", beside=("compile",))
