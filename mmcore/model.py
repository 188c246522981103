r"""The joint model: encoders, one shared backbone, one decoder per task.

A batch meets its loss in :meth:`JointModel.forward`. With the encodings :math:`E_i(x_i)` placed in
the space, for each row's roles,

.. math:: z_t = \sum_{i \,\text{generated}} W_t^{(i)} E_i(x_i) + \sigma_t \epsilon,

the backbone reads ``z_t`` (scaled to unit variance), the clock, the roles and the observed codes, and every
task's decoder reads the backbone's features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.modality import Decoder, LossTerm, Modality, Task
from mmcore.process import Process, widen
from mmcore.rng import Rng
from mmcore.roles import Role
from mmcore.space import Placement, Space

Batch = Mapping[str, Tensor]


class JointModel(nn.Module):
    """N modalities and M tasks around one diffusion space; made by :func:`mmcore.compose`.

    Rows carry one role for each of ``variables``: the ``N`` modalities in order, then targets
    that tasks predict but nothing encodes.

    Attributes:
        modalities: those with an encoding, in the order of the schedule's weights.
        variables: all that a batch may hold.
        tasks: in the order of the losses' columns.
        space: the diffusion space.
        process: the forward process.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        tasks: Sequence[Task],
        *,
        space: Space,
        placement: Placement,
        process: Process,
        backbone: nn.Module,
        features: int,
    ) -> None:
        super().__init__()
        targets = {task.target.name: task.target for task in tasks if isinstance(task.target, Modality)}
        self.modalities = tuple(modalities)
        self.variables = (*modalities, *targets.values())
        self.tasks = tuple(tasks)
        self.space, self.process = space, process
        names = [m.name for m in self.variables]
        self._target = [names.index(t.target if isinstance(t.target, str) else t.target.name) for t in tasks]
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities}).requires_grad_(False)
        self.backbone = backbone
        self.decoders = nn.ModuleDict()
        self.losses: list[LossTerm] = []
        for task, column in zip(tasks, self._target, strict=True):
            target = self.variables[column]
            self.decoders[task.name] = (task.decoder or target.decoder)(features, space)
            self.losses.append(task.loss or target.loss())
        self._reader: dict[str, Task] = {}
        for task, column in zip(tasks, self._target, strict=True):
            self._reader.setdefault(names[column], task)
        n = len(self.modalities)
        generable = torch.tensor([name in self._reader for name in names])
        sizes = torch.tensor(placement.sizes, dtype=torch.float64) / space.size
        tables = {
            "_source": placement.source,
            "_scale": placement.scale,
            "_owner": placement.owner,
            "_share": sizes.float(),
            "_generable": generable,
            "_encoded": torch.arange(len(names)) < n,
            "_columns": torch.tensor(self._target, dtype=torch.int64),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.config: dict[str, object] = {}

    # ---- the training path: a batch, and its loss ----

    def forward(self, batch: Batch, t: Tensor, roles: Tensor, noise: Tensor) -> Tensor:
        """Each task's loss on each row, at the steps ``t``.

        Args:
            batch: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
            t: ``(B,)`` in ``1 … T``; values unchecked.
            roles: ``(B, V)`` int64.
            noise: ``(B, *Z)`` standard normal.

        Returns:
            ``(B, tasks)`` nats, zero where the target's role is not ``GENERATE``.
        """
        placed = self.place(self.encode(batch))
        z = self.aggregate(placed, t, roles) + widen(self.process.level(t).sigma, noise) * noise
        params = self.predict(z, t, roles, placed)
        columns = [
            loss(params[task.name], batch[self.variables[column].name])
            for task, column, loss in zip(self.tasks, self._target, self.losses, strict=True)
        ]
        losses = torch.stack(columns, dim=1)
        return torch.where(self.counts(roles), losses, torch.zeros_like(losses))

    def counts(self, roles: Tensor) -> Tensor:
        """Which losses count, ``(B, tasks)`` bool, for ``roles (B, V)``."""
        return roles[:, self._columns] == Role.GENERATE  # type: ignore[index]

    def encode(self, batch: Batch) -> Tensor:
        """The modalities' codes, concatenated: ``(B, D)``."""
        return torch.cat([self.encoders[m.name](batch[m.name]).flatten(1) for m in self.modalities], dim=1)

    def place(self, codes: Tensor) -> Tensor:
        """Codes ``(B, D)`` at their places: ``(B, layers, dim Z)``, each element still its modality's own."""
        return torch.cat([codes, codes.new_zeros(len(codes), 1)], dim=1)[:, self._source] * self._scale  # type: ignore

    def aggregate(self, placed: Tensor, t: Tensor, roles: Tensor) -> Tensor:
        """``h_t = Σ_i W_t^(i) E_i(x_i)`` over each row's generated modalities: ``(B, *Z)``."""
        W = self.process.level(t).W.to(placed.dtype)
        weight = torch.where(self._is(roles, Role.GENERATE), W, torch.zeros_like(W))
        weight = torch.cat([weight, weight.new_zeros(len(W), 1)], dim=1)[:, self._owner]  # type: ignore[index]
        return self._sum(torch.where(weight != 0, placed * weight, torch.zeros_like(placed)))

    def condition(self, placed: Tensor, roles: Tensor) -> Tensor:
        """The clean codes of each row's observed modalities: ``(B, *Z)``."""
        observed = self._is(roles, Role.OBSERVE)
        observed = torch.cat([observed, observed.new_zeros(len(roles), 1)], dim=1)[:, self._owner]  # type: ignore[index]
        return self._sum(torch.where(observed, placed, torch.zeros_like(placed)))

    def predict(self, z: Tensor, t: Tensor, roles: Tensor, placed: Tensor) -> dict[str, Tensor]:
        """Each task's distribution parameters, from ``z (B, *Z)`` at steps ``t (B,) ≥ 1``.

        Args:
            z: the noisy space.
            t: steps.
            roles: ``(B, V)``.
            placed: ``(B, layers, dim Z)`` as :meth:`place` gives; only observed codes are read.
        """
        level = self.process.level(t)
        share = torch.where(self._is(roles, Role.GENERATE), level.W.square() * self._share, 0.0).sum(1)  # type: ignore
        scaled = z * widen((share + level.sigma.square()).rsqrt(), z)
        encoded = roles[:, : len(self.modalities)]
        features = self.backbone(scaled, t, encoded, self.condition(placed, roles))
        return {name: decoder(features, t) for name, decoder in self.decoders.items()}

    def _is(self, roles: Tensor, role: Role) -> Tensor:
        return roles[:, : len(self.modalities)] == role

    def _sum(self, layers: Tensor) -> Tensor:
        return (layers[:, 0] if layers.shape[1] == 1 else layers.sum(1)).reshape(-1, *self.space.shape)

    # ---- reading predictions ----

    def reads(self, name: str) -> bool:
        """Whether a task recovers this variable, so that it can be generated."""
        return name in self._reader

    def decoder(self, name: str) -> Decoder:
        """The decoder that recovers this variable: that of its first task."""
        return cast(Decoder, self.decoders[self._reader[name].name])

    def params(self, predictions: Mapping[str, Tensor], name: str) -> Tensor:
        """The parameters that recover this variable."""
        return predictions[self._reader[name].name]

    def expected_codes(self, predictions: Mapping[str, Tensor], rng: Rng | None = None) -> Tensor:
        """``Ê_i`` of all modalities, concatenated ``(B, D)``; zero for those that no task recovers.

        Args:
            predictions: as :meth:`predict` gives.
            rng: where given, discrete modalities enter by the code of a draw instead of the mean code.
        """
        rows = len(next(iter(predictions.values())))
        parts = []
        for m in self.modalities:
            if not self.reads(m.name):
                parts.append(torch.zeros(rows, *m.code, device=self._scale.device).flatten(1))  # type: ignore[arg-type]
                continue
            encode = cast(Callable[[Tensor], Tensor], self.encoders[m.name])
            task, params = self._reader[m.name], self.params(predictions, m.name)
            if m.discrete and rng is not None:
                code = encode(self.decoder(m.name).sample(params, rng.of(m.name)))
            elif task.decoder is None:
                code = m.expected_code(params, encode)
            else:
                code = encode(self.decoder(m.name).point(params))
            parts.append(code.flatten(1))
        return torch.cat(parts, dim=1)

    # ---- the public edge ----

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.backbone.parameters()).device

    @property
    def generable(self) -> Tensor:
        """``(V,)`` bool: what some task recovers."""
        return cast(Tensor, self._generable)

    @property
    def encoded(self) -> Tensor:
        """``(V,)`` bool: what has an encoding."""
        return cast(Tensor, self._encoded)

    def variable(self, name: str) -> Modality:
        """The variable of this name.

        Raises:
            RequestError: there is none.
        """
        for m in self.variables:
            if m.name == name:
                return m
        raise RequestError(f"no variable {name!r} in the model; it has {', '.join(m.name for m in self.variables)}")
