"""The hooks a plugin may implement: what the factories of each kind are given, and what they must return.

A hook returns :class:`Offer` objects. A factory is called with keywords only: what the engine gives, where the hook below says so, and
the user's options, from Python or from the table of a configuration. An option that is not taken, or a ``TypeError`` or ``ValueError`` for
another reason, is told to the user as a wrong request. Importing this module imports neither torch nor pluggy.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

PROJECT = "mmcore"
"""What pluggy and the entry points' groups call it, and what is imported."""
DISTRIBUTION = "mmcore-diffusion"
"""What is installed, and what a plugin's requirement names: the ``mmcore`` of the package index is another project."""
REGISTERED = "(registered)"
"""In the place of a distribution's name, for what :meth:`mmcore.Registry.register` was given; no distribution can be called so."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def hookimpl(function: _Function) -> _Function:
    """Mark a function of a plugin's entry module as its implementation of the hook of the same name.

    ``@hookimpl`` stands above the function that returns the plugin's offers. pluggy's own mark is put on when the plugin is loaded, so that
    to list plugins takes no pluggy.
    """
    vars(function)[MARK] = True
    return function


MARK = "__mmcore_hookimpl__"
"""The attribute of a function that :func:`hookimpl` has marked."""


class Offer(NamedTuple):
    """One registered plugin: its name and what makes it.

    Attributes:
        name: the name it is asked for by, as in its entry point after the kind.
        factory: ``"package.module:callable"``, imported when it is first used.
        summary: one sentence for ``mmcore plugins list``.
    """

    name: str
    factory: str
    summary: str = ""


class Proposal(NamedTuple):
    """How a column of data would be read by a modality, as :meth:`mmcore.Modality.proposed` says it for ``mmcore init``: the core names no plugin.

    Attributes:
        options: of the modality's constructor; the height and width of pictures are left to ``mmcore init``.
        note: what was found, for a person.
        numbers: how many elements one value has, by which its task is weighted.
        codes: how many its code has, by which a first model is sized.
        change: the options to change where another reading is meant.
        named: whether the column's name says so: it is then taken before what the core would take it for.
    """

    options: dict[str, Any]
    note: str
    numbers: int = 1
    codes: int = 1
    change: str = ""
    named: bool = False


class Made(NamedTuple):
    """The record of how a plugin was built, kept in a saved model.

    Attributes:
        kind: such as ``modality``.
        offer: the name that it was asked for by.
        distribution: that offers it; :data:`REGISTERED` for what was registered in this process.
        version: of that distribution, empty for what was registered.
        options: that the factory was called with.
    """

    kind: str
    offer: str
    distribution: str
    version: str
    options: dict[str, Any]

    @property
    def registered(self) -> bool:
        """Whether its factory was registered in this process: no installed distribution can make it again, only who registers it again."""
        return self.distribution == REGISTERED

    def record(self) -> dict[str, str]:
        """The offer, its distribution and version, as a saved model records them."""
        return {"offer": self.offer, "distribution": self.distribution, "version": self.version}


def mmcore_modalities() -> Iterable[Offer]:
    """Kinds of data. A factory returns a :class:`mmcore.Modality`.

    The engine gives nothing: all arguments are the user's options, kept with a saved model, so they should be plain values. A
    composition's name for it is put on it afterwards, as ``name``, and how it was made, as ``made``.
    """
    return ()


def mmcore_backbones() -> Iterable[Offer]:
    """Networks around which a model is composed. A factory returns a ``torch.nn.Module`` with an attribute ``features``.

    The engine gives four arguments:

    - ``space`` (:class:`mmcore.Space`): the shape of the latent tensor, ``(C, *grid)`` with one to three axes of the grid.
    - ``modalities`` (int): ``N``, the number of modalities that are encoded.
    - ``steps`` (int): ``T``, the last timestep of the noise schedule.
    - ``blocks`` (int): ``K``, the number of blocks of the space, each with a timestep of its own.

    The options are ``backbone_options`` of :func:`mmcore.compose` and of ``[model]``. The module is called as ``backbone(z, t, roles,
    condition)``: ``z (B, C, *grid)``, scaled to about unit variance; ``t (B, K)`` int64, ``0 … T``; ``roles (B, N)`` int64, a
    :class:`mmcore.Role` each; ``condition (B, 2 C, *grid)``, the clean codes that are known, zero elsewhere, then flags that say where. It returns
    features ``(B, features, *grid)``. Its initial weights come from torch's global generator, which the engine seeds.
    """
    return ()


def mmcore_schedules() -> Iterable[Offer]:
    """Noise schedules. A factory returns a :class:`mmcore.Schedule` of as many steps and modalities as it was asked for.

    The engine gives ``modalities`` (int), the composition's ``N``, and, where the user does not, ``steps`` (int), 1000. The options are
    ``gains`` and ``powers`` of :func:`mmcore.compose`, one number for each modality, and ``schedule_options`` of ``[model]``.
    """
    return ()


def mmcore_sources() -> Iterable[Offer]:
    """Raw data. A factory returns a :class:`mmcore.data.Source`, a :class:`mmcore.data.Stream`, or else a sequence or an iterable of rows, mappings from name to raw value.

    The engine gives ``part`` (``"train"``, ``"validation"``, ``"test"`` or ``"all"``) to a factory that has an argument of this name; the others'
    rows are divided by ``[data.split]``. All else are the user's options, ``[data] options``. A factory may say by an attribute ``disjoint``, as
    :class:`mmcore.data.Source` does, with which options its own parts share no row.
    """
    return ()


def mmcore_embedders() -> Iterable[Offer]:
    """What turns raw values into vectors once, before training. A factory returns a :class:`mmcore.data.embed.Embedder`.

    The engine gives nothing: all arguments are the user's options, those of ``[[data.embed]]``.
    """
    return ()


def mmcore_samplers() -> Iterable[Offer]:
    """Ways from noise to samples. A factory returns a :class:`mmcore.sampling.Sampler`.

    The engine gives of ``steps``, ``spacing``, ``codes`` and ``eta`` what the user has said; all other arguments are the user's options.
    """
    return ()


def mmcore_guidances() -> Iterable[Offer]:
    """Ways to follow a condition more closely. A factory returns a :class:`mmcore.sampling.Guidance`.

    The engine gives ``scales``, a finite number for each observed modality, as ``--guidance`` says them; all other arguments are the user's options.
    """
    return ()


def mmcore_transforms() -> Iterable[Offer]:
    """Changes of a row's raw values, such as crops. A factory returns a :class:`mmcore.data.Transform`.

    The engine gives nothing: all arguments are the user's options, those of ``[[data.transforms]]`` but for ``kind``, which names the offer.
    """
    return ()


def mmcore_trackers() -> Iterable[Offer]:
    """Places where a run's figures and pictures go. A factory returns a :class:`mmcore.training.Tracker`.

    The engine gives nothing: all arguments are the user's options. The run's folder is told to the tracker when the run begins.
    """
    return ()
