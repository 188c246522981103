"""The heads: each task's decoder and loss term, and the clean latents that they predict."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.modality.base import Decoder, LossTerm, Modality, Task, mean_code
from mmcore.modality.holes import code_there, nats
from mmcore.modality.mixed import Mixed, MixedDecoder
from mmcore.modality.noisy import NoisyCode
from mmcore.modality.orthogonal import Turned
from mmcore.rng import Rng

Batch = Mapping[str, Tensor]
Predictions = Mapping[str, Tensor]
"""Each task's distribution parameters, by the task's name."""
DRAWS = 128
"""Of how many draws a mean code is, where only a decoder of one's own knows what its parameters mean."""


class Heads:
    """The tasks' decoders and losses, and the clean latents that they predict.

    The modules themselves are the model's: they are seen from here, not kept.

    Args:
        variables: all that a batch may hold; the first are the modalities.
        tasks: in order.
        targets: of each task the place of its target among the variables.
        encoders: by modality.
        decoders: by task.

    Raises:
        RequestError: a loss with weights that learn.
    """

    def __init__(
        self,
        variables: Sequence[Modality],
        tasks: Sequence[Task],
        targets: Sequence[int],
        encoders: nn.ModuleDict,
        decoders: nn.ModuleDict,
    ) -> None:
        self.tasks, self.encoders, self.decoders = tuple(tasks), encoders, decoders
        self.modalities = tuple(variables[: len(encoders)])
        self.targets = tuple(variables[column] for column in targets)
        self.losses: list[LossTerm] = [
            task.loss or target.loss() for task, target in zip(tasks, self.targets, strict=True)
        ]
        for task, loss in zip(tasks, self.losses, strict=True):
            # A loss is no part of the model: nothing would move, train or save them.
            if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
                raise RequestError(
                    f"compose: the loss of the task {task.name!r}, a {type(loss).__name__}, has weights that learn, expected fixed ones "
                    "(requires_grad_(False)): what learns belongs into the decoder"
                )
        self._first: dict[str, Task] = {}
        for task, target in zip(tasks, self.targets, strict=True):
            self._first.setdefault(target.name, task)

    # ---- who recovers what ----

    def reads(self, name: str) -> bool:
        """Whether some task predicts this variable, so that it can be generated."""
        return name in self._first

    def decoder(self, name: str) -> Decoder:
        """The decoder that predicts this variable: that of its first task."""
        return cast(Decoder, self.decoders[self.first(name)])

    def first(self, name: str) -> str:
        """The first task that predicts this variable, by which it is read."""
        return self._first[name].name

    def params(self, predictions: Predictions, name: str) -> Tensor:
        """The decoder's distribution parameters for a variable."""
        return predictions[self._first[name].name]

    def _known(self, task: Task, target: Modality) -> bool:
        """Whether the parameters of a task are of its target's own form: its decoder is, or its loss reads what another gives."""
        if isinstance(target, Mixed):
            return isinstance(self.decoders[task.name], MixedDecoder)
        return task.decoder is None or task.loss is None

    # ---- from features to losses and codes ----

    def predict(
        self, features: Tensor, timesteps: Tensor, own: Mapping[str, NoisyCode] | None = None
    ) -> dict[str, Tensor]:
        """Run all decoders: each task's distribution parameters.

        Args:
            features: ``(B, features, *grid)`` of the backbone.
            timesteps: ``(B, tasks)``.
            own: each modality's own noisy code, by name, for those decoders that begin from it.
        """
        found = {}
        for task, target, t in zip(self.tasks, self.targets, timesteps.unbind(1), strict=True):
            decoder, mine = self.decoders[task.name], (own or {}).get(target.name)
            begins = mine is not None and getattr(decoder, "preconditioned", False)
            found[task.name] = decoder(features, t, mine) if begins else decoder(features, t)
        return found

    def loss(self, predictions: Predictions, batch: Batch, seen: Batch | None) -> Tensor:
        """Each task's loss term on each row, ``(B, tasks)`` nats; elements that are ``seen`` or void do not count.

        Raises:
            RequestError: a loss term that gives no number for each row.
        """
        columns = []
        for task, target, loss in zip(self.tasks, self.targets, self.losses, strict=True):
            counts = None if seen is None or target.name not in seen else ~seen[target.name]
            column = nats(target, loss, predictions[task.name], batch[target.name], counts)
            rows = batch[target.name].shape[:1]
            if not isinstance(column, Tensor) or column.shape != rows:
                gave = tuple(column.shape) if isinstance(column, Tensor) else f"a {type(column).__name__}"
                raise RequestError(
                    f"the loss of the task {task.name!r} gave {gave}, expected {tuple(rows)}: nats of each sample"
                )
            columns.append(column)
        return torch.stack(columns, dim=1)

    def conditioned(self, predictions: Predictions, values: Batch, where: Batch) -> Predictions:
        """The predictions given what is known of samples seen in part; those that only a decoder of one's own can read as they are.

        Args:
            predictions: as :meth:`predict` gives.
            values: samples by variable.
            where: ``(B, *spec.shape)`` bool by name, the elements that are known.
        """
        found = dict(predictions)
        for task, target in zip(self.tasks, self.targets, strict=True):
            if target.name in where and self._known(task, target):
                x = target.spec.filled(values[target.name])
                found[task.name] = target.conditioned(found[task.name], x, where[target.name])
        return found

    def expected_codes(
        self,
        predictions: Predictions,
        rng: Rng | None = None,
        *,
        draw_all: bool = False,
        batch: Batch | None = None,
        seen: Batch | None = None,
    ) -> Tensor:
        """The predicted clean latents (x0-prediction) of all modalities, ``Ê_i``, concatenated ``(B, D)``.

        They are zero for modalities that no task predicts.

        Args:
            predictions: as :meth:`predict` gives.
            rng: if given, discrete modalities enter by the latent of a draw instead of the mean latent.
            draw_all: then real-valued modalities too.
            batch: samples; what is void in them is 0 here too, as in their own codes.
            seen: which of their elements are known, ``(B, *spec.shape)`` bool by name; None for none.
        """
        if seen is not None and batch is not None:
            predictions = self.conditioned(predictions, batch, seen)
        some = next(iter(predictions.values()))
        parts = []
        for m in self.modalities:
            task = self._first.get(m.name)
            if task is None:
                parts.append(some.new_zeros(len(some), math.prod(m.code)))
                continue
            encoder = self.encoders[m.name]
            # A modality knows the mean of its fixed encoder's codes; a turn is linear.
            fixed = encoder.inner if isinstance(encoder, Turned) else encoder
            # Its type in quotes: to make it anew takes as long as an operation.
            encode = cast("Callable[[Tensor], Tensor]", fixed)
            decoder, params = cast(Decoder, self.decoders[task.name]), predictions[task.name]
            if rng is not None and (m.discrete or draw_all):
                code = encode(decoder.sample(params, rng.of(m.name)))
            elif rng is not None and isinstance(decoder, MixedDecoder):
                code = decoder.codes(params, encode, rng.of(m.name))
            elif self._known(task, m):
                code = m.expected_code(params, encode, decoder)
            elif m.discrete or m.code_draws or isinstance(m, Mixed) or not m.spec.dtype.is_floating_point:
                # The code of the most probable class is not the mean code: answers would be more alike than the data.
                code = mean_code(params, encode, decoder, max(DRAWS, m.code_draws))
            else:
                code = encode(decoder.point(params))
            if batch is not None and (known := code_there(m, batch[m.name])) is not None:
                # Before the turn, which mixes what is known with what is not.
                code = torch.where(known, code, torch.zeros_like(code))
            if isinstance(encoder, Turned):
                code = encoder.turned(code)
            parts.append(code.flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
