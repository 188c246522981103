r"""The joint model: encoders, one denoising network, one decoder per task.

A batch meets its loss in :meth:`JointModel.forward`. With the encodings :math:`E_i(x_i)` placed in
the space, for each row's roles,

.. math:: z_t = \sum_{i \,\text{generated}} W_t^{(i)} E_i(x_i) + \sigma_t \epsilon,

the backbone reads the codes in ``z_t`` (each at unit variance, and zero where none is generated), the timesteps, the roles and the observed
codes. Every task's decoder reads the backbone's features, and begins from its own modality's noisy code. A space of several blocks has a timestep in each; what
follows from the roles for each block is said once, by the :class:`~mmcore.model.drive.Driver`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.modality.base import Modality, Task
from mmcore.modality.holes import code_there, encoded
from mmcore.modality.orthogonal import Turned
from mmcore.model.backbones.base import LooksAhead, looks_ahead
from mmcore.model.composition import Composition
from mmcore.model.drive import Drive, Driver
from mmcore.model.frame import Frame, Seen
from mmcore.model.grown import Grown
from mmcore.model.heads import Heads
from mmcore.model.published import Published
from mmcore.model.reading import Read, Reading
from mmcore.model.roles import Role
from mmcore.process import Blocks, bound
from mmcore.space import Placement, Space

Batch = Mapping[str, Tensor]


class JointModel(Published, nn.Module):
    """The trainable model: encoders, one denoising network, and a decoder for each task.

    It has N modalities and M tasks around one latent tensor that is diffused, and is made by :func:`mmcore.compose`. Rows carry one role for each of ``variables``: the ``N`` modalities in order, then targets
    that tasks predict but nothing encodes.

    Attributes:
        modalities: those with an encoding, in the order of the process's weights.
        variables: all that a batch may hold.
        tasks: in the order of the losses' columns.
        space: the shape of the latent tensor that is diffused.
        process: the forward process, of ``K`` blocks.
        frame: packs the modalities' latents into the space.
        driver: what follows from roles and timesteps.
        heads: the tasks' decoders and losses.
        encoders: by modality.
        reading: how noisy latents are read.
        backbone: the shared network.
        features: how many channels its output has.
        decoders: by task.
        trained_encoders: the modalities whose encoders learn.
        config: what :func:`mmcore.compose` was asked for beside the parts; what a model folder keeps of it.
        configuration: of the run that made it, as a file has it; a record that nothing reads; None where there is none.
        grown: what became of another model's weights in this one (:func:`mmcore.extend`); None where it began with its own.
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
        reading: str = "codes",
    ) -> None:
        super().__init__()
        targets = {task.target.name: task.target for task in tasks if isinstance(task.target, Modality)}
        self.modalities = tuple(modalities)
        self.variables = (*modalities, *targets.values())
        self.tasks = tuple(tasks)
        self.space, self.process = space, process
        names = [m.name for m in self.variables]
        columns = [names.index(t.target if isinstance(t.target, str) else t.target.name) for t in tasks]
        self.trained_encoders = tuple(trained_encoders)
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities}).requires_grad_(False)
        for name in self.trained_encoders:
            turned = Turned(self.encoders[name], self.variables[names.index(name)].code)
            self.encoders[name] = turned
            turned.turn.requires_grad_(True)
        self.backbone, self.features = backbone, features
        self.decoders = nn.ModuleDict(
            {
                task.name: (task.decoder or self.variables[column].decoder)(features, space)
                for task, column in zip(tasks, columns, strict=True)
            }
        )
        self.heads = Heads(self.variables, tasks, columns, self.encoders, self.decoders)
        self.frame = Frame(space, placement, self.modalities)
        discrete = [m.discrete for m in self.modalities]
        single = [m.discrete and not m.spec.shape for m in self.modalities]
        void = [m.spec.void is not None for m in self.modalities]
        self.driver = Driver(process, space, placement.sizes, columns, len(names), discrete, single, void)
        each = [self.decoders[task.name] for task in tasks]
        self.reading = Reading(reading, process, self.frame, self.modalities, self.encoders, each, self.heads.targets)
        self.config: Composition | None = None
        self.configuration: dict[str, object] | None = None
        self.grown: Grown | None = None

    # ---- the training path: a batch, and its loss ----

    def forward(
        self,
        batch: Batch,
        t: Tensor,
        roles: Tensor,
        noise: Tensor,
        seen: Seen | None = None,
        *,
        condition_noise: Tensor | None = None,
        objective: str = "recovery",
        drive: Drive | None = None,
    ) -> Tensor:
        """Training losses: each task's on each row, at the timesteps ``t``.

        Args:
            batch: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
            t: ``(B, K)`` in ``1 … T``, or ``(B,)`` for all blocks; values unchecked.
            roles: ``(B, V)``.
            noise: ``(B, *Z)`` standard normal.
            seen: ``(B, *spec.shape)`` bool by name, the elements of generated modalities that are observed.
            condition_noise: ``(B, D)``, added to the observed codes that the network is told (conditioning augmentation); None adds nothing.
            objective: ``"recovery"``, the tasks' loss terms at every ``t``; or ``"bound"``, the parts of the variational bound:
                ``L2``, the loss terms, at ``t = 1`` and the shares of ``L1_t`` elsewhere.
            drive: :meth:`drive` of ``t``, ``roles`` and ``seen``, where it is at hand.

        Returns:
            ``(B, tasks)`` nats, zero where the target's role is not ``GENERATE``; elements seen do not count.
        """
        placed = self.frame.place(self.encode(batch))
        drive = self.drive(t, roles, seen) if drive is None else drive
        told = placed if condition_noise is None else placed + self.frame.place(condition_noise.to(placed.dtype))
        z = self.noisy(self._held(placed, told, drive), drive, noise)
        condition = self.condition(told, drive, self.there(batch))
        predictions = self.predict(self.read(z, drive), drive.t, drive.timesteps, roles, condition)
        losses = self.heads.loss(predictions, batch, seen)
        if objective == "bound" and self.process.steps > 1:
            gap = placed - self.frame.place(self.heads.expected_codes(predictions, batch=batch, seen=seen))
            if drive.known is not None:
                gap = torch.where(self.frame.marks(drive.known), torch.zeros_like(gap), gap)
            # At timesteps below 2, where there is no such term, the values mean nothing.
            generate = self.driver.are(roles, Role.GENERATE)
            L1 = bound.posterior(self.process, gap, drive.t.clamp(min=2), counts=generate, placed=self.frame)
            losses = torch.where(drive.timesteps == 1, losses, self.driver.to_first_task(L1))
        return torch.where(drive.counts, losses, 0.0)

    def encode(self, batch: Batch) -> Tensor:
        """Encode every modality to its latent, concatenated: ``(B, D)``; 0 where it is void."""
        codes = [encoded(m, self.encoders[m.name], batch[m.name]) for m in self.modalities]  # type: ignore[arg-type]
        return self.frame.together(codes)

    def there(self, batch: Batch) -> Tensor | None:
        """Which code elements of a batch are not void: ``(B, D)`` bool; None where no modality has void."""
        if all(m.spec.void is None for m in self.modalities):
            return None
        parts = []
        for m, size in zip(self.modalities, self.frame.sizes, strict=True):
            x = batch[m.name]
            there = code_there(m, x, whole=m.name in self.trained_encoders)
            parts.append(
                torch.ones(len(x), size, dtype=torch.bool, device=x.device) if there is None else there.flatten(1)
            )
        return torch.cat(parts, dim=1)

    def drive(self, t: Tensor, roles: Tensor, seen: Seen | None = None) -> Drive:
        """Noise-schedule coefficients of every block, from timesteps and roles; arguments as :meth:`forward`'s."""
        known = None if seen is None else self.frame.known(seen, self.driver.are(roles, Role.GENERATE))
        return self.driver(t, roles, known)

    def noisy(self, placed: Tensor, drive: Drive, noise: Tensor) -> Tensor:
        """Add noise: ``z_t = h_t + σ_t ε`` at the given timesteps, ``(B, *Z)``.

        Args:
            placed: the clean latents, packed as ``frame.place`` does.
            drive: of the timesteps, as :meth:`drive` gives it.
            noise: ``(B, *Z)`` standard normal.
        """
        h = self.frame.weighted(placed, drive.level.W, drive.known)
        # Codes may have more digits than the noise that was drawn for the heads.
        return self.process.marginal(None, drive.level, h=h).draw(noise.to(h.dtype))

    def read(self, z: Tensor, drive: Drive) -> Read:
        """What the network and the heads are given of noisy latents ``(B, *Z)``."""
        return self.reading.read(z, self.reading.gains(drive, z.dtype))

    def condition(self, placed: Tensor, drive: Drive, there: Tensor | None = None) -> Tensor:
        """The network's conditioning input: observed clean latents, then a mask of where they are, ``(B, 2 C, *grid)``.

        Args:
            placed: the clean latents, packed as ``frame.place`` does.
            drive: of the timesteps, as :meth:`drive` gives it.
            there: ``(B, D)`` bool, the code elements that are not void; None for all.
        """
        told = self.frame.spread(drive.condition)
        if there is not None:
            told = told & self.frame.marks(there)
        if drive.known is not None:
            told = told | self.frame.marks(drive.known)
        if self.reading.how == "codes":
            placed = self.frame.loud(placed)
        codes = self.frame.join(torch.where(told, placed, 0.0))
        flags = told[:, 0] if told.shape[1] == 1 else told.any(1)
        flags = flags.reshape(-1, *self.space.shape).expand_as(codes)
        return torch.cat([codes, flags.to(codes.dtype)], dim=1)

    def predict(
        self,
        read: Read,
        t: Tensor,
        timesteps: Tensor,
        roles: Tensor,
        condition: Tensor,
        ahead: tuple[Tensor, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Run the network and all decoders: each task's distribution parameters.

        Args:
            read: of the noisy latents, as :meth:`read` gives it.
            t: ``(B, K)``, the blocks' timesteps as the network is told them, ``drive.t``.
            timesteps: ``(B, tasks)``, as the heads are told them, ``drive.timesteps``.
            roles: ``(B, V)``.
            condition: as :meth:`condition` gives it.
            ahead: what the network has worked out of these timesteps and roles, as :meth:`ahead` gives it; by default it does so now.
        """
        more = {} if ahead is None else {"ahead": ahead}
        features = self.backbone(read.shown, t, roles.narrow(1, 0, len(self.modalities)), condition, **more)
        expected = (read.shown.shape[0], self.features, *self.space.shape[1:])
        if getattr(features, "shape", None) != expected:
            kind = type(features).__name__
            returned = f"features of shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {kind}"
            raise RequestError(
                f"the backbone, a {type(self.backbone).__name__}, returned {returned}, expected {expected}: "
                "(B, features, *grid) as mmcore.Backbone says"
            )
        return self.heads.predict(features, timesteps, self.reading.own(read))

    def ahead(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
        """What timesteps fix in the network, whatever the noisy latents: tensors ``(R, …)``, for :meth:`predict`; None of a network that does not say.

        Args:
            t: ``(R, K)``, the blocks' timesteps as the network is told them, ``drive.t``.
            roles: ``(R, V)``.
            dtype: of the noisy latents.
        """
        if not looks_ahead(self.backbone):
            return None
        return cast(LooksAhead, self.backbone).ahead(t, roles.narrow(1, 0, len(self.modalities)), dtype)

    def _held(self, placed: Tensor, told: Tensor, drive: Drive) -> Tensor:
        """What the space holds: ``placed``, but in observed blocks beside others what the network is ``told``."""
        if told is placed or self.process.blocks == 1:
            return placed
        still = drive.level.sigma == 0
        return torch.where(self.frame.spread(self.process.by_modality(still)), told, placed)

    # ---- what a caller asks ----

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        # A network need not have parameters.
        return cast(Tensor, self.frame._scale).device

    def divisible(self, m: Modality) -> bool:
        """Whether this modality can be inpainted: a sample observed in part, element by element, and not turned as a whole."""
        return m.divisible and m.name not in self.trained_encoders

    def variable(self, name: str) -> Modality:
        """The variable of this name.

        Raises:
            RequestError: there is none.
        """
        for m in self.variables:
            if m.name == name:
                return m
        raise RequestError(f"no variable {name!r} in the model; it has {', '.join(m.name for m in self.variables)}")
