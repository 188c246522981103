"""Devices by their names."""

import os

import torch

from mmcore.errors import RequestError, plainly, quoted


def pick_device(name: str | torch.device) -> torch.device:
    """``auto``: a GPU where there is one, else the CPU; or any of torch's devices, or its name. Under ``torchrun`` each process has its own GPU.

    Raises:
        RequestError: no such device.
    """
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
    # Of a device that is not built in, torch raises what its dispatcher has.
    except (RuntimeError, AssertionError, ValueError) as error:
        raise RequestError(f"device {quoted(name)} cannot be used: {plainly(str(error).splitlines()[0])}") from error
    return device
