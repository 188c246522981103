r"""The joint model: encoders, one shared backbone, one decoder per task.

A batch meets its loss in :meth:`JointModel.forward`. With the encodings :math:`E_i(x_i)` placed in
the space, for each row's roles,

.. math:: z_t = \sum_{i \,\text{generated}} W_t^{(i)} E_i(x_i) + \sigma_t \epsilon,

the backbone reads ``z_t`` (scaled to unit variance), the clocks, the roles and the observed codes, and every
task's decoder reads the backbone's features. A space of several blocks has a clock in each; what
follows from the roles for each block is said once, in :meth:`JointModel.drive`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.modality.base import Decoder, LossTerm, Modality, Task
from mmcore.modality.orthogonal import Turned
from mmcore.model.roles import Role
from mmcore.process import Blocks, bound
from mmcore.rng import Rng
from mmcore.space import Placement, Space

Batch = Mapping[str, Tensor]
Seen = Mapping[str, Tensor]


@attrs.frozen(eq=False)
class Drive:
    """How the rows' roles and clocks drive the space.

    Attributes:
        t: ``(B, K)``, each block's clock as the network is told: 0 where all the block has is observed, ``T`` where
            it has nothing.
        moves: ``(B, K)`` bool, the blocks that generate something.
        weight: ``(B, N)``, the factor of each encoding in the space: ``W_t`` where it is generated, 1 in a block that
            is observed, else 0.
        sigma: ``(B, K)``, the noise: ``σ_t``, 0 in an observed block, 1 in one that has nothing.
        scale: ``(B, K)``, what brings the space to unit variance for the network.
        condition: ``(B, N)`` bool, the encodings told to the network beside the space.
        clocks: ``(B, tasks)``, that of each target's block; a target without a code has none of its own, and its decoder is told
            that of the noisiest block that generates something.
        counts: ``(B, tasks)`` bool, the losses that count.
        seen: ``(B, D)`` bool, the code elements that are known of generated modalities; None for none.
    """

    t: Tensor
    moves: Tensor
    weight: Tensor
    sigma: Tensor
    scale: Tensor
    condition: Tensor
    clocks: Tensor
    counts: Tensor
    seen: Tensor | None


class JointModel(nn.Module):
    """N modalities and M tasks around one diffusion space; made by :func:`mmcore.compose`.

    Rows carry one role for each of ``variables``: the ``N`` modalities in order, then targets
    that tasks predict but nothing encodes.

    Attributes:
        modalities: those with an encoding, in the order of the process's weights.
        variables: all that a batch may hold.
        tasks: in the order of the losses' columns.
        space: the diffusion space.
        process: the forward process, of ``K`` blocks.
        trained_encoders: the modalities whose encoders learn.
        configuration: of the run that made it, as a file has it; a record that nothing reads; None where there is none.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        tasks: Sequence[Task],
        *,
        space: Space,
        placement: Placement,
        process: Blocks,
        backbone: nn.Module,
        features: int,
        trained_encoders: Collection[str] = (),
    ) -> None:
        super().__init__()
        targets = {task.target.name: task.target for task in tasks if isinstance(task.target, Modality)}
        self.modalities = tuple(modalities)
        self.variables = (*modalities, *targets.values())
        self.tasks = tuple(tasks)
        self.space, self.process = space, process
        names = [m.name for m in self.variables]
        self._target = [names.index(t.target if isinstance(t.target, str) else t.target.name) for t in tasks]
        self.trained_encoders = tuple(trained_encoders)
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities}).requires_grad_(False)
        for name in self.trained_encoders:
            turned = Turned(self.encoders[name], self.variables[names.index(name)].code)
            self.encoders[name] = turned
            turned.turn.requires_grad_(True)
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
        block_of = process.block_of
        block_sizes = torch.tensor(process.channels)[block_of] * (space.size // space.shape[0])
        tables = {
            "_source": placement.source,
            "_scale": placement.scale,
            "_owner": placement.owner,
            # d_i/d, the share of its block that a modality's code is.
            "_share": torch.tensor(placement.sizes, dtype=torch.float64) / block_sizes,
            "_block_of": block_of,
            "_member": torch.nn.functional.one_hot(block_of, process.blocks).double(),
            "_generable": generable,
            "_encoded": torch.arange(len(names)) < n,
            "_discrete": torch.tensor([m.discrete for m in self.modalities]),
            "_targets": torch.tensor(self._target, dtype=torch.int64),
            # What a task predicts, and whose share of L1 it has; N is no modality.
            "_coded": torch.tensor([min(column, n) for column in self._target]),
            "_share_of": torch.tensor(
                [
                    c if c < n and self._reader[names[c]] is task else n
                    for task, c in zip(tasks, self._target, strict=True)
                ]
            ),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.config: dict[str, object] = {}
        self.configuration: dict[str, object] | None = None

    # ---- the training path: a batch, and its loss ----

    def forward(
        self,
        batch: Batch,
        t: Tensor,
        roles: Tensor,
        noise: Tensor,
        seen: Seen | None = None,
        *,
        blur: Tensor | None = None,
        objective: str = "recovery",
        drive: Drive | None = None,
    ) -> Tensor:
        """Each task's loss on each row, at the steps ``t``.

        Args:
            batch: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
            t: ``(B, K)`` in ``1 … T``, or ``(B,)`` for all blocks; values unchecked.
            roles: ``(B, V)`` int64.
            noise: ``(B, *Z)`` standard normal.
            seen: ``(B, *spec.shape)`` bool by name, the elements of generated modalities that are observed.
            blur: ``(B, D)``, added to what the network is told of the observed codes; None adds nothing.
            objective: ``"recovery"``, the tasks' loss terms at every ``t``; or ``"bound"``, the parts of the variational bound:
                ``L2``, the loss terms, at ``t = 1`` and :meth:`posterior_shares` of ``L1_t`` elsewhere.
            drive: :meth:`drive` of ``t``, ``roles`` and ``seen``, where it is at hand.

        Returns:
            ``(B, tasks)`` nats, zero where the target's role is not ``GENERATE``; elements seen do not count.
        """
        placed = self.place(self.encode(batch))
        drive = self.drive(t, roles, seen) if drive is None else drive
        told = placed if blur is None else placed + self.place(blur.to(placed.dtype))
        z = self.noisy(self._held(placed, told, drive), drive, noise)
        params = self._predict(z, drive, roles, told)
        columns = []
        for task, column, loss in zip(self.tasks, self._target, self.losses, strict=True):
            name = self.variables[column].name
            where = None if seen is None or name not in seen else ~seen[name]
            columns.append(loss(params[task.name], batch[name], where))
        losses = torch.stack(columns, dim=1)
        if objective == "bound" and self.process.steps > 1:
            losses = torch.where(drive.clocks == 1, losses, self.posterior_shares(placed, params, drive, roles))
        return torch.where(drive.counts, losses, 0.0)

    def posterior_shares(self, placed: Tensor, params: Mapping[str, Tensor], drive: Drive, roles: Tensor) -> Tensor:
        r"""``L1_t`` of the bound, divided among the tasks: ``(B, tasks)`` nats.

        With ``d_i = c_i (E_i(x_i) - Ê_i)``, ``c`` of :func:`mmcore.process.bound.coefficients`, ``L1_t`` is
        :math:`\|\sum_i d_i\|^2`, of which modality ``i``'s share is :math:`\langle d_i, \sum_j d_j \rangle`: its
        own square where codes do not overlap. It goes to the first task that recovers the modality; other tasks
        have none. At clocks below 2, where there is no such term, the values mean nothing.
        """
        c = bound.coefficients(self.process, drive.t.clamp(min=2))
        c = torch.where(self._is(roles, Role.GENERATE), c, torch.zeros_like(c))
        gap = placed - self.place(self.expected_codes(params))
        if drive.seen is not None:
            gap = torch.where(self._to_places(drive.seen), torch.zeros_like(gap), gap)
        return self._shares(gap * self._to_owners(c.to(gap.dtype)))[:, self._share_of]  # type: ignore[index]

    def prior_shares(self, batch: Batch, roles: Tensor) -> tuple[Tensor, Tensor]:
        r"""``L0 = KL(q(z_T | X) ‖ N(0, I))`` by its parts, in nats.

        Args:
            batch: as :meth:`forward`'s.
            roles: ``(B, V)``.

        Returns:
            ``(B, V)``, each variable's share, by the rule of :meth:`posterior_shares`, and ``(B,)``, that of the space as
            such, :math:`\tfrac12 (\sigma_T^2 - 1 - \log \sigma_T^2)` for each element of the blocks that generate something.
        """
        level = self.process.level(
            torch.full((len(roles), self.process.blocks), self.process.steps, device=roles.device)
        )
        generate = self._is(roles, Role.GENERATE)
        W = torch.where(generate, level.W, torch.zeros_like(level.W))
        placed = self.place(self.encode(batch)).double()
        shares = self._shares(placed * self._to_owners(W * 0.5**0.5))
        variance = level.sigma.square()
        per_element = 0.5 * (variance - 1 - variance.log())
        elements = torch.tensor(self.process.channels, device=roles.device) * (self.space.size // self.space.shape[0])
        uncoded = shares.new_zeros(len(shares), len(self.variables) - len(self.modalities))
        by_variable = torch.cat([shares[:, : len(self.modalities)], uncoded], dim=1)
        return by_variable, (per_element * elements * self.moves(roles)).sum(1)

    def _shares(self, d: Tensor) -> Tensor:
        """``⟨d_i, Σ_j d_j⟩`` of layers ``(B, layers, dim Z)``: ``(B, N + 1)``; the last, of no modality, is zero."""
        shares = (d * d.sum(1, keepdim=True)).flatten(1)
        owners = cast(Tensor, self._owner).flatten()
        return shares.new_zeros(len(shares), len(self.modalities) + 1).index_add(1, owners, shares)

    def by_task(self, values: Tensor, uncoded: float) -> Tensor:
        """The modalities' ``values (B, N)`` for the tasks that predict them, ``(B, tasks)``; ``uncoded`` for targets without a code."""
        rest = values.new_full((len(values), 1), uncoded)
        return torch.cat([values, rest], dim=1).index_select(1, cast(Tensor, self._coded))

    @property
    def targets(self) -> tuple[Modality, ...]:
        """What each task predicts."""
        return tuple(self.variables[column] for column in self._target)

    def counts(self, roles: Tensor) -> Tensor:
        """Which losses count, ``(B, tasks)`` bool, for ``roles (B, V)``."""
        return roles.index_select(1, cast(Tensor, self._targets)) == Role.GENERATE

    def drive(self, t: Tensor, roles: Tensor, seen: Seen | None = None) -> Drive:
        """What follows from clocks and roles for each block of the space.

        A block that generates something runs at its clock; what is observed in it is told beside it. A block
        of which all that is there is observed holds the clean codes at clock 0; one of which nothing is there holds
        noise at clock ``T``.

        Args:
            t: ``(B, K)``, or ``(B,)`` for all blocks.
            roles: ``(B, V)``.
            seen: as :meth:`forward`'s.
        """
        t = t[:, None].expand(-1, self.process.blocks) if t.ndim == 1 else t
        generate, observe = self._is(roles, Role.GENERATE), self._is(roles, Role.OBSERVE)
        moves = self._any(generate)
        clean = self._any(observe) & ~moves
        clock = torch.where(moves, t, torch.where(clean, 0, self.process.steps))
        level = self.process.level(clock)
        W = level.W * generate
        still = observe & self.process.by_modality(clean)
        known = None if seen is None else self._seen_codes(seen, roles)
        share = W.square() * cast(Tensor, self._share)
        if known is not None:
            share = share * torch.stack([1 - part.double().mean(1) for part in self._split(known)], dim=1)
        scale = (self._by_block(share) + level.sigma.square()).rsqrt()
        noisiest = torch.where(moves, clock, 0).amax(1, keepdim=True)
        clocks = torch.cat([clock.index_select(1, cast(Tensor, self._block_of)), noisiest], dim=1)
        return Drive(
            clock,
            moves,
            torch.where(still, 1.0, W),
            torch.where(moves, level.sigma, torch.where(clean, 0.0, 1.0)),
            torch.where(moves, scale, 1.0),
            observe & ~still,
            clocks.index_select(1, cast(Tensor, self._coded)),
            self.counts(roles),
            known,
        )

    def moves(self, roles: Tensor) -> Tensor:
        """Which blocks generate something, ``(B, K)`` bool, for ``roles (B, V)``."""
        return self._any(self._is(roles, Role.GENERATE))

    def encode(self, batch: Batch) -> Tensor:
        """The modalities' codes, concatenated: ``(B, D)``."""
        return torch.cat([self.encoders[m.name](batch[m.name]).flatten(1) for m in self.modalities], dim=1)

    def place(self, codes: Tensor) -> Tensor:
        """Codes ``(B, D)`` at their places: ``(B, layers, dim Z)``, each element still its modality's own."""
        return self._to_places(codes) * self._scale  # type: ignore[operator]

    def noisy(self, placed: Tensor, drive: Drive, noise: Tensor) -> Tensor:
        """The space at the drive's clocks, ``z_t = h_t + σ_t ε``: ``(B, *Z)``."""
        return self.aggregate(placed, drive) + self.process.widen(drive.sigma, noise) * noise

    def aggregate(self, placed: Tensor, drive: Drive) -> Tensor:
        """``h_t = Σ_i W_t^(i) E_i(x_i)`` over what each row generates, and the clean blocks' codes: ``(B, *Z)``."""
        weight = self._to_owners(drive.weight.to(placed.dtype))
        counts = weight != 0
        if drive.seen is not None:
            counts = counts & ~self._to_places(drive.seen)
        return self._sum(torch.where(counts, placed * weight, 0.0))

    def condition(self, placed: Tensor, drive: Drive) -> Tensor:
        """What is told beside the space, ``(B, 2 C, *grid)``: the observed clean codes, then flags where they are."""
        told = self._to_owners(drive.condition)
        if drive.seen is not None:
            told = told | self._to_places(drive.seen)
        codes = self._sum(torch.where(told, placed, 0.0))
        flags = told[:, 0] if told.shape[1] == 1 else told.any(1)
        return torch.cat([codes, flags.reshape(codes.shape).to(codes.dtype)], dim=1)

    def predict(
        self, z: Tensor, t: Tensor, roles: Tensor, placed: Tensor, seen: Seen | None = None
    ) -> dict[str, Tensor]:
        """Each task's distribution parameters, from ``z (B, *Z)`` at steps ``t ≥ 1``.

        Args:
            z: the noisy space.
            t: ``(B, K)``, or ``(B,)`` for all blocks.
            roles: ``(B, V)``.
            placed: ``(B, layers, dim Z)`` as :meth:`place` gives; only observed codes are read.
            seen: as :meth:`forward`'s.
        """
        return self._predict(z, self.drive(t, roles, seen), roles, placed)

    def _predict(self, z: Tensor, drive: Drive, roles: Tensor, placed: Tensor) -> dict[str, Tensor]:
        scaled = z * self.process.widen(drive.scale, z)
        encoded = roles[:, : len(self.modalities)]
        features = self.backbone(scaled, drive.t, encoded, self.condition(placed, drive))
        clocks = zip(self.tasks, drive.clocks.unbind(1), strict=True)
        return {task.name: self.decoders[task.name](features, t) for task, t in clocks}

    # ---- indices ----

    def _is(self, roles: Tensor, role: Role) -> Tensor:
        return roles[:, : len(self.modalities)] == role

    def _by_block(self, values: Tensor) -> Tensor:
        """Sums ``(B, N)`` over each block's modalities: ``(B, K)``."""
        return values @ cast(Tensor, self._member).to(values.dtype)

    def _any(self, marks: Tensor) -> Tensor:
        """Whether ``marks (B, N)`` hold for any of a block's modalities: ``(B, K)`` bool."""
        return marks.any(1, keepdim=True) if self.process.blocks == 1 else self._by_block(marks.double()) > 0

    def _split(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Concatenated codes ``(B, D)`` by modality."""
        return codes.split([torch.Size(m.code).numel() for m in self.modalities], dim=1)

    def _to_places(self, codes: Tensor) -> Tensor:
        """``(B, D)`` to the elements of the space, ``(B, layers, dim Z)``; zero where there is no code."""
        return self._columns(codes, cast(Tensor, self._source))

    def _to_owners(self, values: Tensor) -> Tensor:
        """``(B, N)`` to the elements of the space, ``(B, layers, dim Z)``; zero where there is no code."""
        return self._columns(values, cast(Tensor, self._owner))

    def _columns(self, values: Tensor, at: Tensor) -> Tensor:
        """``values (B, n)`` at ``at (layers, dim Z)``; zero where there is no code, which is ``n`` there."""
        values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
        # By brackets it takes five times as long.
        return values.index_select(1, at.flatten()).unflatten(1, at.shape)

    def _held(self, placed: Tensor, told: Tensor, drive: Drive) -> Tensor:
        """What the space holds: ``placed``, but in observed blocks beside others what the network is ``told``."""
        if told is placed or self.process.blocks == 1:
            return placed
        still = drive.sigma == 0
        return torch.where(self._to_owners(self.process.by_modality(still)), told, placed)

    def _sum(self, layers: Tensor) -> Tensor:
        return (layers[:, 0] if layers.shape[1] == 1 else layers.sum(1)).reshape(-1, *self.space.shape)

    def _seen_codes(self, seen: Seen, roles: Tensor) -> Tensor:
        """Which code elements of generated modalities are known, ``(B, D)``."""
        generate = self._is(roles, Role.GENERATE)
        parts = []
        for i, m in enumerate(self.modalities):
            if m.name in seen:
                parts.append(m.code_where(seen[m.name]).flatten(1) & generate[:, i, None])
            else:
                parts.append(generate.new_zeros(len(roles), torch.Size(m.code).numel()))
        return torch.cat(parts, dim=1)

    def divisible(self, m: Modality) -> bool:
        """Whether a sample of this modality can be observed in part: element by element, and not turned as a whole."""
        return m.divisible and m.name not in self.trained_encoders

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

    def expected_codes(
        self, predictions: Mapping[str, Tensor], rng: Rng | None = None, *, draw_all: bool = False
    ) -> Tensor:
        """``Ê_i`` of all modalities, concatenated ``(B, D)``; zero for those that no task recovers.

        Args:
            predictions: as :meth:`predict` gives.
            rng: where given, discrete modalities enter by the code of a draw instead of the mean code.
            draw_all: then real-valued modalities too.
        """
        rows = len(next(iter(predictions.values())))
        parts = []
        for m in self.modalities:
            if not self.reads(m.name):
                parts.append(torch.zeros(rows, *m.code, device=self._scale.device).flatten(1))  # type: ignore[arg-type]
                continue
            encoder = self.encoders[m.name]
            # A modality knows the mean of its fixed encoder's codes; a turn is linear.
            fixed = encoder.inner if isinstance(encoder, Turned) else encoder
            encode = cast(Callable[[Tensor], Tensor], fixed)
            task, params = self._reader[m.name], self.params(predictions, m.name)
            if rng is not None and (m.discrete or draw_all):
                code = encode(self.decoder(m.name).sample(params, rng.of(m.name)))
            elif task.decoder is None:
                code = m.expected_code(params, encode)
            else:
                code = encode(self.decoder(m.name).point(params))
            if isinstance(encoder, Turned):
                code = encoder.turned(code)
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

    @property
    def discrete(self) -> Tensor:
        """``(N,)`` bool: the modalities whose values are classes."""
        return cast(Tensor, self._discrete)

    def variable(self, name: str) -> Modality:
        """The variable of this name.

        Raises:
            RequestError: there is none.
        """
        for m in self.variables:
            if m.name == name:
                return m
        raise RequestError(f"no variable {name!r} in the model; it has {', '.join(m.name for m in self.variables)}")
