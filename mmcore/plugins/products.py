"""What a factory of each kind must return, and what a thing lacks to be one."""

import functools
import importlib
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Protocol

PRODUCTS = {
    "modality": "mmcore:Modality",
    "backbone": "torch.nn:Module",
    "schedule": "mmcore:Schedule",
    "source": "mmcore.data:Source",
    "embedder": "mmcore.data.embed:Embedder",
    "sampler": "mmcore.sampling:Sampler",
    "guidance": "mmcore.sampling:Guidance",
    "transform": "mmcore.data:Transform",
    "tracker": "mmcore.training:Tracker",
}
"""The class or protocol of each kind, as ``module:name``."""


def misfit(kind: str, thing: object) -> str:
    """What is wrong with a thing that should be of a kind, such as ``"a Foo without step(), expected a …"``; empty where it is right."""
    if kind == "source" and _has_rows(thing):
        return ""
    module, _, name = PRODUCTS[kind].partition(":")
    expected: type = getattr(importlib.import_module(module), name)
    title = f"expected a {module}.{name}{' or a sequence of rows' if kind == 'source' else ''}"
    if isinstance(thing, type):
        return f"the class {thing.__name__}, {title}, an object and no class"
    required = required_of(expected)
    lacking = [
        f"{wanted}()" if called else wanted for wanted, called in required.items() if not _has(thing, wanted, called)
    ]
    if lacking:
        return f"{_a(thing)} without {', '.join(lacking)}, {title}"
    if _is_protocol(expected) or isinstance(thing, expected):
        return ""
    inherits = ", of which its class must be a subclass" if required and kind != "source" else ""
    return f"{_a(thing)}, {title}{inherits}"


def required_of(expected: type) -> dict[str, bool]:
    """What an abstract class or a protocol asks for, in its order, and whether it is called: methods, and attributes without a value."""
    # Not above: whoever lists plugins would wait for it.
    import inspect

    required: dict[str, bool] = {}
    for base in reversed(expected.__mro__):
        if _is_protocol(expected):
            if _is_protocol(base):
                required |= dict.fromkeys(inspect.get_annotations(base), False)
                required |= {
                    name: isinstance(x, FunctionType) for name, x in vars(base).items() if _is_declared(name, x)
                }
        elif inspect.isabstract(expected):
            required |= {
                name: False for name in inspect.get_annotations(base) if name[0] != "_" and not hasattr(expected, name)
            }
            required |= {
                name: isinstance(x, FunctionType)
                for name, x in vars(base).items()
                if name in expected.__abstractmethods__
            }
    return required


def is_product(kind: str, thing: object) -> bool:
    """Whether an object that was given as a factory is what the factory should make, such as a module, which can be called too."""
    makes = isinstance(thing, type | FunctionType | BuiltinFunctionType | MethodType | functools.partial)
    return not makes and not misfit(kind, thing)


def unfinished(factory: object) -> str:
    """The methods that an abstract class leaves open, so that no object of it can be made, such as ``"end(), step()"``."""
    abstract = getattr(factory, "__abstractmethods__", ()) if isinstance(factory, type) else ()
    return ", ".join(f"{name}()" for name in sorted(abstract))


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _has(thing: object, name: str, called: bool) -> bool:
    return hasattr(thing, name) and (not called or callable(getattr(thing, name)))


def _has_rows(thing: object) -> bool:
    """Whether rows can be had of it; whether they are mappings shows when one is read."""
    if isinstance(thing, type | str | bytes | Mapping):
        return False
    return hasattr(thing, "__iter__") or (hasattr(thing, "__len__") and hasattr(thing, "__getitem__"))


def _is_protocol(cls: type) -> bool:
    return Protocol in cls.__bases__


def _is_declared(name: str, member: object) -> bool:
    """Whether a protocol's body asks for it; what every object has, and what ``typing`` and Python put there, it does not ask for."""
    known = name in vars(object) or name.startswith(("__annotate", "_abc_"))
    return not known and isinstance(member, FunctionType | property)
