"""Sampling: :func:`sample`, the samplers, guidance, and the protocol that both are written against."""

from mmcore.sampling.ask import sample
from mmcore.sampling.denoiser import Asked, Denoiser, Here
from mmcore.sampling.guidance import ClassifierFree, Guidance, Guided, Pinned
from mmcore.sampling.question import Question
from mmcore.sampling.samplers import Ancestral, Ddim, Heun, Multistep, Sampler, plan

__all__ = [
    "Ancestral",
    "Asked",
    "ClassifierFree",
    "Ddim",
    "Denoiser",
    "Guidance",
    "Guided",
    "Here",
    "Heun",
    "Multistep",
    "Pinned",
    "Question",
    "Sampler",
    "plan",
    "sample",
]
