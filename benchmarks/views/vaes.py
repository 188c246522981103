"""MultiVae's models on the same views, for the same CPU time: trained, asked the same questions, their answers written for ``measure``.

``python benchmarks/views/vaes.py views.npz ANSWERS.npz [--model MVTCAE] [--seconds 300]`` runs by itself, in an environment that has ``multivae`` and nothing of
this project: ``pip install multivae`` brings a torch and a torchvision of its own. Encoders and decoders of pictures are those that it has for PolyMNIST.
"""

# pyright: reportMissingImports=false
import argparse
import itertools
import time
from typing import Any

import numpy as np
import torch
from multivae import models
from multivae.data.datasets import IncompleteDataset
from multivae.models.base import BaseAEConfig
from multivae.models.nn import mmnist
from multivae.samplers import GaussianMixtureSampler
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder
from torch import Tensor, nn

VIEWS = ("stripes", "checks", "rings", "clouds", "rays")
LATENT = {"MVTCAE": 64, "MoPoE": 64, "MMVAEPlus": 32}
STYLE = 32


class LabelEncoder(BaseEncoder):
    """One-hot classes to Gaussians, with a part of its own where the model has one."""

    def __init__(self, latent: int, style: int = 0) -> None:
        super().__init__()
        self.latent_dim, self.style_dim = latent, style
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU())
        self.out = nn.Linear(64, 2 * (latent + style))

    def forward(self, x: Tensor) -> ModelOutput:
        # No views of one tensor: missing rows' parts are overwritten in place.
        parts = [x.clone() for x in self.out(self.net(x)).split([self.latent_dim, self.style_dim] * 2, -1)]
        found = ModelOutput(embedding=parts[0], log_covariance=parts[2])
        if self.style_dim:
            found["style_embedding"], found["style_log_covariance"] = parts[1], parts[3]
        return found


class LabelDecoder(BaseDecoder):
    """To the logits of classes."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z))


def made(name: str) -> Any:
    """A model with its authors' settings for PolyMNIST, but for fewer latent numbers."""
    latent, style = LATENT[name], STYLE if name == "MMVAEPlus" else 0
    config = BaseAEConfig(input_dim=(3, 28, 28), latent_dim=latent, style_dim=style)
    encoder = mmnist.EncoderConvMMNIST_multilatents if style else mmnist.EncoderConvMMNIST
    encoders = {view: encoder(config) for view in VIEWS} | {"label": LabelEncoder(latent, style)}
    whole = BaseAEConfig(input_dim=(3, 28, 28), latent_dim=latent + style)
    decoders = {view: mmnist.DecoderConvMMNIST(whole) for view in VIEWS} | {"label": LabelDecoder(latent + style)}
    options = {"MVTCAE": {"beta": 2.5, "alpha": 5 / 6}, "MoPoE": {"beta": 2.5}, "MMVAEPlus": {"K": 1, "beta": 2.5, "modalities_specific_dim": style}}  # fmt: skip
    settings = getattr(models, f"{name}Config")(
        n_modalities=6,
        latent_dim=latent,
        input_dims=dict.fromkeys(VIEWS, (3, 28, 28)) | {"label": (10,)},
        uses_likelihood_rescaling=True,
        decoders_dist=dict.fromkeys(VIEWS, "laplace") | {"label": "categorical"},
        decoder_dist_params={view: {"scale": 0.75} for view in VIEWS},
        **options[name],
    )
    return getattr(models, name)(settings, encoders, decoders)


def read(path: str, part: int) -> IncompleteDataset:
    """A part's rows, pictures in 0 … 1 and classes as one-hot vectors."""
    with np.load(path) as arrays:
        rows = arrays["split"] == part
        data = {view: torch.from_numpy(arrays[view][rows]).float() / 255 for view in VIEWS}
        data["label"] = nn.functional.one_hot(torch.from_numpy(arrays["label"][rows]), 10).float()
        masks = {name: torch.from_numpy(arrays[f"has_{name}"][rows]) for name in data}
    # A row that has nothing has no posterior.
    some = torch.stack([*masks.values()]).any(0)
    return IncompleteDataset(
        data={name: x[some] for name, x in data.items()}, masks={name: x[some] for name, x in masks.items()}
    )


def part(rows: IncompleteDataset, chosen: Tensor) -> IncompleteDataset:
    """Some of the rows."""
    return IncompleteDataset(
        data={name: x[chosen] for name, x in rows.data.items()},
        masks={name: x[chosen] for name, x in rows.masks.items()},
    )


def train(model: Any, rows: IncompleteDataset, seconds: float, rate: float) -> int:
    """Adam with batches of 64, until so much CPU time has gone; returns how many steps."""
    optimizer, began, step = torch.optim.Adam(model.parameters(), lr=rate), time.process_time(), 0
    model.train()
    while time.process_time() - began < seconds:
        for chosen in torch.randperm(len(rows.data["label"])).split(64):
            loss = model(part(rows, chosen)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 200 == 0:
                print(f"step {step}: loss {loss.item():.1f}, {time.process_time() - began:.0f} s of CPU", flush=True)
            if time.process_time() - began >= seconds:
                break
    model.eval()
    return step


def main() -> None:
    """Train, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--model", choices=sorted(LATENT), default="MVTCAE")
    parser.add_argument("--seconds", type=float, default=300, help="of CPU time")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rows", type=int, default=400)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows, model = read(given.data, 0), made(given.model)
    steps = train(model, rows, given.seconds, given.rate)
    print(f"{given.model}: {sum(p.numel() for p in model.parameters()):,} parameters, {steps:,} steps", flush=True)
    found: dict[str, np.ndarray] = {}

    def keep(prefix: str, answer: dict[str, Tensor], chosen: Tensor | None = None) -> None:
        n = given.rows
        for name, x in answer.items():
            x = x.detach().reshape(-1, *((10,) if name == "label" else (3, 28, 28)))
            x = x.argmax(-1) if name == "label" else (255 * x.clamp(0, 1)).round().byte()
            whole = found.setdefault(f"{prefix}/{name}", np.zeros((n, *x.shape[1:]), x.numpy().dtype))
            whole[slice(None) if chosen is None else chosen.numpy()] = x.numpy()

    with torch.no_grad():
        keep("prior", model.decode(model.generate_from_prior(given.rows)))
        sampler = GaussianMixtureSampler(model)
        whole = torch.stack([*rows.masks.values()]).all(0).nonzero()[:, 0]
        if len(whole) >= 200:
            sampler.fit(part(rows, whole))
            keep("mixture", model.decode(sampler.sample(given.rows)))
        held = part(read(given.data, 2), torch.arange(given.rows))
        for names in ([*VIEWS, "label"], [*VIEWS], [*VIEWS[:2]]):
            # The first says whether it is asked rightly, the others whether the pictures' encoders know the class.
            answer = model.predict(held, cond_mod=names)
            right = (answer["label"].argmax(-1) == held.data["label"].argmax(-1)).double().mean()
            error = torch.stack([(answer[view] - held.data[view]).abs().mean() for view in VIEWS]).mean()
            print(f"of {', '.join(names)}: label {right:.3f}, absolute error of pictures {error:.3f}", flush=True)
        for k in (1, 2, 3, 4):
            shown = torch.zeros(given.rows, len(VIEWS), dtype=torch.bool)
            choices = list(itertools.combinations(range(len(VIEWS)), k))
            for number, choice in enumerate(choices):
                chosen = torch.arange(number, given.rows, len(choices))
                shown[chosen[:, None], torch.tensor(choice)] = True
                keep(f"{k}", model.predict(part(held, chosen), cond_mod=[VIEWS[i] for i in choice]), chosen)
            found[f"{k}/given"] = shown.numpy()
    np.savez(given.out, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
