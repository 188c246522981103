"""Networks of diffusers as backbones: any that takes ``(sample, timestep)``, new, or with the pretrained weights of a local folder.

What the network was trained to see stays its first input channels, and what it was trained to predict its first output channels. All that a joint model
tells beside that, the observed codes, their flags, timesteps and roles, comes in by further channels whose weights begin at zero. So at first the
network predicts what it always did: with nothing observed and one modality composed, its samples are its own.
"""

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore import RequestError, Space
from mmcore.errors import OptionError
from mmcore.modality.axes import Axis, Inputs
from mmcore.model.backbones.parts import Local, TimestepEmbedding, wrong_sizes
from mmcore.model.drive import DROWNED
from mmcore.model.roles import Role
from mmcore_diffusers.folder import Folder, class_of, make
from mmcore_diffusers.levels import Levels, scheduler_of
from mmcore_diffusers.widen import WiderIn, on_meta, widen

if TYPE_CHECKING:
    from mmcore import JointModel

_EMBEDDED = 32
"""Channels by which the network is told timesteps and roles."""


class Network(nn.Module):
    """A network of diffusers as denoising network: noisy latents, timesteps, roles and conditioning to features.

    A grid of two axes is filled up with zeros to a size that the network takes; any other is folded into a square.

    Args:
        space: the diffusion space.
        modalities: ``N``.
        steps: ``T``.
        blocks: ``K``, the number of timesteps.
        model: the name of a class of diffusers, whose forward takes ``(sample, timestep)``.
        folder: of pretrained weights, as diffusers saves them: ``config.json`` and safetensors. The latents that it knows are those of the first modality.
        config: of a new network, arguments of the class.
        scheduler: of a pretrained network, the noise that it was trained on: the folder of its ``scheduler_config.json``, or its options as a table. By
            default it is looked for in the network's folder and in the folder ``scheduler`` beside it.
        features: channels of the output at each place, beside those that a pretrained network predicts.
        pretrained: what a model folder has of a pretrained network in the place of its folder.
    """

    model: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        *,
        space: Space,
        modalities: int,
        steps: int,
        blocks: int = 1,
        model: str | None = None,
        folder: str | None = None,
        config: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | str | None = None,
        features: int = 16,
        pretrained: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if refused := wrong_sizes("diffusers", features=features):
            raise refused[0]
        kind = model or self.model
        _check_forward(kind)
        self.grid, channels = space.grid, space.shape[0]
        weights = None
        if folder is not None:
            if config or pretrained:
                raise OptionError("diffusers", "config", config, "none beside a folder, which has its own")
            weights = Folder.read(folder, "diffusers", [kind])
            told = scheduler_of(scheduler, weights.path)
            config, pretrained = weights.settings, {"sha256": weights.weights.sha256, "scheduler": told}
        config = {**({} if pretrained else self.defaults), **(config or {})}
        self.square = "patch_size" in config
        self.unit = int(config.get("patch_size") or 2 ** (len(config.get("block_out_channels") or [0]) - 1))
        self.sides = self._sides()
        inputs = 3 * channels + _EMBEDDED
        self.known = self.predicted = 0
        self.levels: Levels | None = None
        if pretrained:
            self.levels = Levels(pretrained["scheduler"], steps)
            self.net = self._pretrained(kind, config, weights, inputs, channels, features)
            # A model folder holds the widened weights, and no path.
            self.remade_with = {
                "model": kind,
                "config": dict(config),
                "features": features,
                "pretrained": dict(pretrained),
            }
        else:
            ends = {"in_channels": inputs, "out_channels": features, "sample_size": self.sides[0]}
            self.net = self._quiet(make(kind, {**config, **ends}, "diffusers"))
            shape, called = self._asked(inputs)
            if shape != (1, features, *self.sides):
                raise RequestError(
                    f"diffusers: a {kind} returns {shape} for {(1, inputs, *self.sides)}, expected {features} channels of the same size"
                )
            first = next((one for one in called if isinstance(one, nn.Conv2d)), None)
            reads = first is not None and (first.in_channels, first.groups) == (inputs, 1)
            self.entry = self._place(first) if reads else ""
        self.features = self.predicted + features
        self.timestep = TimestepEmbedding(_EMBEDDED, steps, modalities, blocks)
        self.local = Local(space, features)
        self.block = 0

    # ---- as it is made ----

    def _sides(self) -> tuple[int, int]:
        """Height and width of what the network is shown."""
        if len(self.grid) == 2:
            height, width = self.grid
        else:
            height = width = math.isqrt(math.prod(self.grid) - 1) + 1
        if self.square:
            height = width = max(height, width)
        return -(-height // self.unit) * self.unit, -(-width // self.unit) * self.unit

    def _pretrained(
        self, kind: str, config: Mapping[str, Any], folder: Folder | None, inputs: int, channels: int, features: int
    ) -> nn.Module:
        """The widened network; without a folder its weights are loaded later."""
        net = make(kind, config, "diffusers") if folder is None else folder.load("diffusers")
        net = self._quiet(net).requires_grad_(True)
        self.known = int(config.get("in_channels") or 0)
        if not 1 <= self.known <= channels:
            raise RequestError(
                f"diffusers: the {kind} knows latents of {self.known} channels, the space has {channels}; expected as many at least"
            )
        self.net = net
        shape, called = self._asked(self.known)
        if shape[2:] != self.sides or shape[1] < self.known:
            raise RequestError(
                f"diffusers: a {kind} returns {shape} for {(1, self.known, *self.sides)}, expected as many channels of the same size"
            )
        self.predicted = shape[1]
        widen(net, called, known=self.known, predicted=self.predicted, more=inputs - self.known, features=features)
        shape, _ = self._asked(inputs)
        if shape != (1, self.predicted + features, *self.sides):
            raise RequestError(f"diffusers: a {kind} cannot be widened: it then returns {shape}")
        self.entry = self._place(next(one.more for one in net.modules() if isinstance(one, WiderIn)))
        return net

    def _place(self, layer: nn.Module | None) -> str:
        """Where the weight of a layer of the network lies."""
        return next(f"net.{name}.weight" for name, one in self.net.named_modules() if one is layer)

    def _quiet(self, net: nn.Module) -> nn.Module:
        """Class labels are another modality's affair: the network is told none, and drops none at random."""
        self.label: int | None = None
        for module in net.modules():
            if type(module).__name__ == "LabelEmbedding":
                self.label, module.dropout_prob = int(module.num_classes), 0.0  # type: ignore[arg-type, assignment]
        return net

    def _asked(self, channels: int) -> tuple[tuple[int, ...], Any]:
        kind = type(self.net).__name__
        try:
            return on_meta(self.net, (1, channels, *self.sides), self._told(torch.zeros(1)))
        except Exception as error:  # the library raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(
                f"diffusers: a {kind} does not take (sample, timestep) of {(1, channels, *self.sides)}: {reason}"
            ) from error

    def composed(self, model: "JointModel") -> None:
        """Learn the process, by which timesteps become the network's own, and let the first modality's head begin from what it predicts.

        Raises:
            RequestError: the first modality's code does not lie where the network knows it.
        """
        if self.levels is None:
            return
        first = model.modalities[0]
        n = self.known * math.prod(self.grid)
        place = torch.arange(1, sum(model.frame.sizes) + 1, dtype=torch.float64)[None].to(model.device)
        lies = model.frame.show(place).flatten()[:n]
        if first.code != (self.known, *self.grid) or not torch.equal(lies, place[0, :n]):
            raise RequestError(
                f"diffusers: the network knows latents of {(self.known, *self.grid)}, and the first modality, {first.name!r}, has codes of {first.code} in a "
                f"space of {model.space.shape}; expected these latents first"
            )
        process = model.process
        self.block = int(process.block_of[0])
        level = process.level(torch.arange(process.steps + 1)[:, None].expand(-1, process.blocks))
        weight, sigma = level.W[:, 0].cpu().numpy(), level.sigma[:, self.block].cpu().numpy()
        with np.errstate(divide="ignore"):
            ratio = 2 * (np.log(weight) - np.log(sigma))
        self.levels.fit(ratio, silent=model.reading.how == "codes" and weight[-1] ** 2 < DROWNED)
        if model.heads.reads(first.name) and hasattr(decoder := model.heads.decoder(first.name), "begin_from"):
            decoder.begin_from(range(self.known))  # type: ignore[operator]

    def fresh_parameters(self) -> list[nn.Parameter]:
        """What a pretrained network did not bring: with adapters these learn as well, and nothing else."""
        if self.levels is None:
            return []
        return [p for name, p in self.named_parameters() if not name.startswith("net.") or ".more." in name]

    def weight_axes(self) -> dict[str, Axis]:
        """Of each channel the noisy code, the known code and its flag, then timesteps and roles; what a pretrained network knows is read by its own layer."""
        read = Inputs("channels", parts=3, axis=1, skip=self.known, tail=_EMBEDDED)
        return {self.entry: read} if self.entry else {}

    # ---- as it is called ----

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        """The features that decoders read.

        Args:
            z: ``(B, *Z)``, scaled to about unit variance.
            t: ``(B, K)`` timesteps, one per block of the space.
            roles: ``(B, N)`` int64, a :class:`mmcore.Role` each.
            condition: ``(B, 2 C, *Z[1:])``, the clean codes that are known beside ``z``, and flags that say where.

        Returns:
            ``(B, features, *Z[1:])``: the code that a pretrained network predicts, and the rest.
        """
        told = self.timestep(t, roles, z.dtype)
        told = told.reshape(*told.shape, *[1] * len(self.grid)).expand(-1, -1, *self.grid)
        sample = self._fold(torch.cat([z, condition, told], dim=1))
        time = t[:, 0].float() if self.levels is None else self.levels(t[:, self.block])
        out = self._unfold(self.net(sample, **self._told(time))[0])
        more = self.local(z, condition)
        if self.levels is None:
            return out + more
        generated = roles[:, 0] == Role.GENERATE
        code = self.levels.code(z[:, : self.known], out[:, : self.known], t[:, self.block], generated)
        rest = out[:, self.known : self.predicted]
        return torch.cat([code.to(out.dtype), rest, out[:, self.predicted :] + more], dim=1)

    def _told(self, time: Tensor) -> dict[str, Any]:
        labels = (
            {} if self.label is None else {"class_labels": torch.full((len(time),), self.label, device=time.device)}
        )
        return {"timestep": time, "return_dict": False, **labels}

    def _fold(self, x: Tensor) -> Tensor:
        """``(B, C, *grid)`` to ``(B, C, *sides)``."""
        height, width = self.sides
        if len(self.grid) == 2:
            return F.pad(x, (0, width - self.grid[1], 0, height - self.grid[0]))
        flat = x.flatten(2)
        return F.pad(flat, (0, height * width - flat.shape[2])).unflatten(2, self.sides)

    def _unfold(self, x: Tensor) -> Tensor:
        """The way back."""
        if len(self.grid) == 2:
            return x[:, :, : self.grid[0], : self.grid[1]]
        return x.flatten(2)[:, :, : math.prod(self.grid)].unflatten(2, self.grid)


def _check_forward(kind: str) -> None:
    """Refuse a class whose forward wants more than a sample and a timestep, before any is made."""
    takes = inspect.signature(class_of(kind, "diffusers").forward).parameters
    wanted = [p.name for p in list(takes.values())[2:] if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    wanted = [name for name in wanted if name != "timestep"]
    if "timestep" not in takes or "return_dict" not in takes or wanted:
        found = f"it wants {', '.join(wanted)} too" if wanted else f"it takes {', '.join(list(takes)[1:])}"
        raise RequestError(f"diffusers: a {kind} is no network of (sample, timestep): {found}")


class Unet(Network):
    """A UNet of diffusers, ``UNet2DModel`` by default; see ``Network``."""

    model = "UNet2DModel"
    defaults: ClassVar[Mapping[str, Any]] = {
        "block_out_channels": [64, 128],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }


class Dit(Network):
    """A diffusion transformer of diffusers, ``DiTTransformer2DModel`` by default; see ``Network``."""

    model = "DiTTransformer2DModel"
    defaults: ClassVar[Mapping[str, Any]] = {
        "num_layers": 4,
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "patch_size": 2,
        "num_embeds_ada_norm": 1,
    }
