r"""From our timesteps to those of a pretrained network, by their signal-to-noise ratio, and from what it predicts to the code.

A network of diffusers was trained on :math:`x_\tau = \sqrt{\bar\alpha_\tau}\, x_0 + \sqrt{1 - \bar\alpha_\tau}\, \epsilon`. Of our space it is shown
:math:`z_t / \sqrt{W_t^2 + \sigma_t^2}`, which is the same where :math:`W_t^2 / \sigma_t^2 = \bar\alpha_\tau / (1 - \bar\alpha_\tau)`. That defines :math:`\tau(t)`, in between by
interpolation over the logarithm. Beyond the ends of its own noise the network is asked at the ends.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcore import RequestError
from mmcore.files import expanded
from mmcore.store.reading import DamagedError, read_json

PREDICTIONS = ("epsilon", "sample", "v_prediction")
_DIGITS = 2.0**30


class Levels(nn.Module):
    """The pretrained network's timestep, and its share of signal, at each of our timesteps.

    Tables are whole numbers: no change of precision touches them.

    Args:
        scheduler: the noise that the network was trained on, as ``scheduler_of`` gives it.
        steps: our ``T``.
    """

    time: Tensor
    ratio: Tensor
    says: Tensor

    def __init__(self, scheduler: Mapping[str, Any], steps: int) -> None:
        super().__init__()
        self.prediction = str(scheduler["prediction_type"])
        self.theirs = log_snr(scheduler)
        last = len(self.theirs) - 1
        for name in ("time", "ratio", "says"):
            self.register_buffer(name, torch.zeros(steps + 1, dtype=torch.int64), persistent=False)
        # As long as nobody says what our process is, its timesteps are spread over theirs.
        even = np.linspace(0, last, steps + 1)
        self._put(even, np.interp(even, np.arange(last + 1), self.theirs), np.ones(steps + 1))

    def fit(self, ours: np.ndarray, *, silent: bool = False) -> None:
        """Take our process.

        Args:
            ours: ``(T + 1,)``, the log signal-to-noise ratio of the modality that the network knows.
            silent: the network is shown nothing of it at ``T``, and says nothing.
        """
        ours = np.clip(ours, self.theirs[-1], self.theirs[0])
        # Of increasing numbers.
        time = np.interp(-ours, -self.theirs, np.arange(len(self.theirs)))
        says = np.ones(len(ours))
        says[-1] = not silent
        self._put(time, ours, says)

    def _put(self, time: np.ndarray, ratio: np.ndarray, says: np.ndarray) -> None:
        for name, values in (("time", time * _DIGITS), ("ratio", ratio * _DIGITS), ("says", says)):
            getattr(self, name).copy_(torch.from_numpy(np.round(values)).long())

    def forward(self, t: Tensor) -> Tensor:
        """The network's own timesteps of ours ``(B,)``, with fractions, float32."""
        return (self.time[t].double() / _DIGITS).float()

    def code(self, z: Tensor, predicted: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The clean code that a prediction amounts to.

        Args:
            z: ``(B, C, *grid)``, as the network was shown it.
            predicted: of the same shape.
            t: ``(B,)``, ours.
            counts: ``(B,)`` bool, the rows of which the prediction is asked; 0 is the code of the others.
        """
        ratio = (self.ratio[t].double() / _DIGITS)[:, None, None, None]
        signal, noise = ratio.sigmoid().sqrt().float(), (-ratio).sigmoid().sqrt().float()
        z, predicted = z.float(), predicted.float()
        if self.prediction == "epsilon":
            code = (z - noise * predicted) / signal
        elif self.prediction == "v_prediction":
            code = signal * z - noise * predicted
        else:
            code = predicted
        asked = (counts & (self.says[t] > 0))[:, None, None, None]
        return torch.where(asked, code, torch.zeros_like(code))


def log_snr(scheduler: Mapping[str, Any]) -> np.ndarray:
    """``log(ᾱ/(1 - ᾱ))`` at each of a scheduler's timesteps, decreasing.

    Raises:
        RequestError: a scheduler that diffusers cannot make, or whose noise does not grow.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    takes = inspect.signature(DDPMScheduler.__init__).parameters
    try:
        made = DDPMScheduler(**{key: value for key, value in scheduler.items() if key in takes})
        share = made.alphas_cumprod.double().numpy()
    except Exception as error:  # the library raises many kinds
        raise RequestError(f"diffusers: scheduler cannot be made: {str(error).splitlines()[0]}") from error
    # With a terminal ratio of zero its logarithm has no end.
    ratio = np.log(np.maximum(share, 1e-9)) - np.log(np.maximum(1 - share, 1e-9))
    if len(ratio) < 2 or not (np.diff(ratio) < 0).all():
        raise RequestError("diffusers: scheduler has noise that does not grow from timestep to timestep")
    return ratio


def scheduler_of(given: Mapping[str, Any] | str | None, folder: Path | None) -> dict[str, Any]:
    """The noise that a network was trained on, as its ``scheduler_config.json`` has it.

    Args:
        given: a table of its options, or the folder of its file; by default it is looked for beside the network.
        folder: the network's.

    Raises:
        RequestError: none is found, it is of a kind that is not known, or it cannot be read.
    """
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        places = [expanded(given)] if given else [] if folder is None else [folder, folder.parent / "scheduler"]
        file = next((one for place in places if (one := place / "scheduler_config.json").is_file()), None)
        if file is None:
            where = " or ".join(map(str, places))
            raise RequestError(
                f"diffusers: found no scheduler_config.json in {where}, which says what noise the network was trained on; give its folder, or "
                'scheduler = { beta_schedule = "linear", prediction_type = "epsilon" }'
            )
        try:
            found = read_json(file)
        except DamagedError as error:
            raise RequestError(f"diffusers: {error}") from error
    kind = str(found.get("_class_name", ""))
    if kind.startswith("Flow"):
        raise RequestError(f"diffusers: scheduler is a {kind}, expected one of noise by betas, such as DDPMScheduler")
    found = {"prediction_type": "epsilon", **{key: value for key, value in found.items() if not key.startswith("_")}}
    if found["prediction_type"] not in PREDICTIONS:
        raise RequestError(
            f"diffusers: scheduler has prediction_type = {found['prediction_type']!r}, expected {', '.join(PREDICTIONS)}"
        )
    wanted = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "rescale_betas_zero_snr")  # fmt: skip
    return {key: found[key] for key in wanted if found.get(key) is not None}
