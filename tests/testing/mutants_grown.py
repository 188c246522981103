"""Controls of a page and axes of weights that are broken on purpose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

from mmcore.errors import RequestError
from mmcore.modality.axes import Inputs, Places, Rows
from mmcore.modality.control import Choice, File, Group, Painting, Picture, Text
from mmcore.modality.mixed import Mixed
from mmcore_label import LabelModality
from mmcore_mask import MaskModality
from mmcore_scalar import ScalarModality
from tests.testing.mutants import Mutant, broken
from tests.testing.mutants_networks import Small, born

# ---- controls ----


def number() -> ScalarModality:
    return ScalarModality(mean=40.0, std=10.0, low=0.0, high=100.0)


def numbers() -> ScalarModality:
    return ScalarModality(3, mean=[5.0, 50.0, 500.0], std=[1.0, 10.0, 100.0])


def named() -> LabelModality:
    return LabelModality(3, names=["cat", "dog", "owl"])


def columns() -> Mixed:
    return Mixed("table", {"age": number(), "kind": named()})


def shows(healthy: str | Callable[[], Any], control: Any) -> Callable[[Path], Any]:
    """A healthy modality with another control: one, or a change of its own."""

    def own(self: Any) -> Any:
        return control(type(self).__mro__[1].control(self)) if callable(control) else control

    return broken(healthy, control=own)


def changed(**changes: Any) -> Callable[[Any], Any]:
    return lambda control: attrs.evolve(control, **changes)


def grey_alone(self: Any, raw: Any) -> Any:
    """Refuses pictures in colours."""
    if getattr(raw, "mode", "L") != "L":
        raise RequestError(f"found mode {raw.mode}, expected L")
    return type(self).__mro__[1].read(self, raw)


CALLS: list[int] = []


def another_each_time(control: Any) -> Any:
    CALLS.append(0)
    return attrs.evolve(control, name=str(len(CALLS)))


CONTROLS = [
    Mutant("control.plain", "a text of markup for a control", shows(number, "<input>")),
    Mutant("control.plain", "options with a name too few", shows(named, changed(names=("cat", "dog")))),
    Mutant("control.plain", "two options of one name", shows(named, changed(names=("cat", "cat", "owl")))),
    Mutant("control.plain", "options as tensors", shows(named, changed(options=tuple(torch.arange(3))))),
    Mutant("control.plain", "a slider from right to left", shows(number, changed(span=(70.0, 10.0)))),
    Mutant("control.plain", "a slider beyond the limits", shows(number, changed(span=(-10.0, 70.0)))),
    Mutant("control.plain", "a limit that is infinite", shows(number, changed(high=float("inf")))),
    Mutant("control.plain", "a limit as a tensor", shows(number, changed(low=torch.tensor(0.0)))),
    Mutant("control.plain", "another control each time", shows(number, another_each_time)),
    Mutant("control.plain", "a unit of two lines", shows(number, changed(unit="years\nold"))),
    Mutant("control.plain", "colours in 0 … 1", shows("mask of two classes", lambda one: attrs.evolve(one, colours=tuple(tuple(v / 255 for v in rgb) for rgb in one.colours)))),
    Mutant("control.plain", "a picture in a group", shows(columns, Group({"age": Picture((8, 8))}))),
    Mutant("control.plain", "a suffix without its dot", shows("embedding on the sphere", File("a vector", ("npy",)))),
    Mutant("control.agrees", "a slider of other limits", shows(number, changed(high=150.0))),
    Mutant("control.agrees", "no limits where there are some", shows(number, changed(low=None, high=None))),
    Mutant("control.agrees", "a slider in other units", shows(number, changed(low=0.0, high=1.0, span=(0.1, 0.7)))),
    Mutant("control.agrees", "whole numbers of a real one", shows(number, changed(whole=True, span=(10, 70)))),
    Mutant("control.agrees", "a number too few", shows(numbers, lambda one: attrs.evolve(one, parts=one.parts[:2]))),
    Mutant("control.agrees", "sliders in another order", shows(numbers, lambda one: attrs.evolve(one, parts=one.parts[::-1]))),
    Mutant("control.agrees", "a class too few", shows("label", lambda one: Choice(one.options[:-1], one.names[:-1]))),
    Mutant("control.agrees", "a board of width and height", shows(lambda: MaskModality((6, 10)), lambda one: attrs.evolve(one, size=one.size[::-1]))),
    Mutant("control.agrees", "colours in another order", shows(lambda: MaskModality(8, 4), lambda one: attrs.evolve(one, colours=one.colours[::-1]))),
    Mutant("control.agrees", "a class too few to paint", shows(lambda: MaskModality(8, 4), lambda one: Painting(one.size, one.colours[:-1], one.names[:-1]))),
    Mutant("control.agrees", "a group of other columns", shows(columns, lambda one: Group(dict(reversed(list(one.parts.items())))))),
    Mutant("control.back", "names that are no raw values", shows("label", lambda one: Choice(tuple(f"class {k}" for k in one.options), one.names))),
    Mutant("control.back", "options in another order than their names", shows(named, lambda one: attrs.evolve(one, options=one.options[::-1]))),
    Mutant("control.back", "one class in the place of another", shows("label", lambda one: attrs.evolve(one, options=(*one.options[:-1], str(one.options[0]))))),
    Mutant("control.back", "a slider that read refuses", broken(lambda: ScalarModality(mean=40.0, std=10.0), read=lambda self, raw: type(self).__mro__[1].read(self, raw if float(raw) > 30 else "low"))),
    Mutant("control.back", "a number in thousandths", broken(lambda: ScalarModality(mean=40.0, std=10.0), read=lambda self, raw: type(self).__mro__[1].read(self, raw / 1000 if isinstance(raw, float | int) else raw))),
    Mutant("control.back", "a number for a list of one", shows(lambda: ScalarModality(1, mean=[40.0], std=[10.0]), Text("forty"))),
    Mutant("control.back", "a drawing in another mode than read takes", broken("image, 17 grey levels", control=lambda self: attrs.evolve(type(self).__mro__[1].control(self), colours=True), read=grey_alone)),
]  # fmt: skip


# ---- axes of weights ----


def part(place: str, name: str, axis: Any) -> Callable[[Path], Any]:
    """The transformer one part of which says something else of a weight; None for nothing."""

    def change(self: Any) -> None:
        module = self.get_submodule(place)
        said = dict(module.weight_axes())
        said.pop(name, None)
        if axis is not None:
            said[name] = axis(module.weight_axes().get(name)) if callable(axis) else axis
        module.weight_axes = lambda: said

    return born(change)


class Mirrored(Small):
    """Reads channels from the last to the first, which it does not say."""

    def forward(self, z: Any, t: Any, roles: Any, condition: Any) -> Any:
        return super().forward(z.flip(1), t, roles, condition)


class Averaged(Small):
    """Features divided by the number of modalities."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.count = options["modalities"]

    def forward(self, *x: Any) -> Any:
        return super().forward(*x) / self.count


def says(healthy: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], Any]:
    """A modality whose decoder says something else of its weights."""

    def prepare(decoder: Any) -> None:
        inner = decoder.inner
        said = change(dict(inner.weight_axes()))
        inner.weight_axes = lambda: said

    return broken(healthy, prepare=prepare)


def rows(change: Callable[[Rows], Rows]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda said: {name: change(axis) for name, axis in said.items()}


def idle_zero(axis: Inputs) -> Inputs:
    return attrs.evolve(axis, idle=None, bias="")


AXES = [
    Mutant("backbone.axes", "an axis of a weight that is not there", part("local", "layer.weight", Inputs("channels")), "backbone"),
    Mutant("backbone.axes", "one part for three", part("local", "linear.weight", Inputs("channels")), "backbone"),
    Mutant("backbone.axes", "channels for modalities", part("timestep", "roles.weight", Inputs("channels", 3)), "backbone"),
    Mutant("backbone.axes", "a weight that is left out", part("timestep", "mix.0.weight", None), "backbone"),
    Mutant("backbone.axes", "an idle reading of another length", part("timestep", "roles.weight", lambda one: attrs.evolve(one, idle=torch.ones(5))), "backbone"),
    Mutant("backbone.axes", "a bias that is not there", part("timestep", "roles.weight", lambda one: attrs.evolve(one, bias="shift")), "backbone"),
    Mutant("backbone.axes", "a text for an axis", part("local", "linear.weight", "channels"), "backbone"),
    Mutant("backbone.axes", "places of another grid", part("", "position", Places((5, 3))), "backbone"),
    Mutant("backbone.extends", "a role that is absent read as nothing", part("timestep", "roles.weight", idle_zero), "backbone"),
    Mutant("backbone.extends", "an absent block at timestep 0", part("timestep", "mix.0.weight", lambda one: attrs.evolve(one, idle=one.idle.flip(0))), "backbone"),
    Mutant("backbone.extends", "parts and channels exchanged", part("local", "linear.weight", Inputs("channels", 3)), "backbone"),
    Mutant("backbone.extends", "codes and flags exchanged with channels", part("", "observe.weight", lambda one: Inputs("channels", 2 * one.inner)), "backbone"),
    Mutant("backbone.extends", "channels read backwards", lambda _: Mirrored, "backbone"),
    Mutant("backbone.extends", "features over the number of modalities", lambda _: Averaged, "backbone"),
    Mutant("decoder.axes", "a row too many for each class", says("label", rows(lambda one: attrs.evolve(one, inner=2)))),
    Mutant("decoder.axes", "classes in another order", says("label", rows(lambda one: attrs.evolve(one, names=one.names[::-1])))),
    Mutant("decoder.axes", "two classes of one name", says("label", rows(lambda one: attrs.evolve(one, names=(one.names[0], *one.names[:-1]))))),
    Mutant("decoder.axes", "a weight that is not there", says("label", lambda said: {"head.weight": said["head.out.weight"]})),
    Mutant("decoder.axes", "classes for pixels", says("mask with void", rows(lambda one: Places((2, 2))))),
]  # fmt: skip

MUTANTS = [*CONTROLS, *AXES]
