"""Dataclasses whose methods are compiled when they are first called.

The standard library compiles up to six for each frozen class while a program is being loaded: for 150 classes that
takes longer than all else that is loaded, and a command calls those of a few.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

Class = TypeVar("Class")

NOTHING = {"init": False, "repr": False, "eq": False}
COMPILED = {  # what makes the standard library compile this method, and little else
    "__init__": NOTHING | {"init": True, "frozen": True},
    "__repr__": NOTHING | {"repr": True},
    "__eq__": NOTHING | {"eq": True},
    "__hash__": NOTHING | {"unsafe_hash": True},
}
OF_EQUALITY = ("__eq__", "__hash__")


@dataclass_transform(field_specifiers=(dataclasses.field,))
def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[type[Class]], type[Class]]:
    """Return what makes a class a dataclass, as dataclasses.dataclass() does; only frozen ones with slots are late."""
    if not (frozen and slots):
        return dataclasses.dataclass(frozen=frozen, slots=slots, eq=eq)

    def decorate(written: type[Class]) -> type[Class]:
        body = {name: value for name, value in vars(written).items() if name not in ("__dict__", "__weakref__")}
        made: type[Class] = dataclasses.dataclass(**NOTHING, slots=True)(written)
        for name in COMPILED:
            if eq or name not in OF_EQUALITY:
                setattr(made, name, _late(made, body, name))
        for name in ("__setattr__", "__delattr__", "__getstate__", "__setstate__"):
            setattr(made, name, vars(_Frozen)[name])
        return made

    return decorate


def _late(made: type, body: dict[str, Any], name: str) -> Callable[..., Any]:
    """Return a method of the class `made`, which was written with this body: its first call compiles the real one."""

    def compile_and_call(self: object, *values: object, **named: object) -> Any:
        again = type(made)(made.__name__, made.__bases__, {**body, "__qualname__": made.__qualname__})
        method = vars(dataclasses.dataclass(**COMPILED[name])(again))[name]
        setattr(made, name, method)
        return method(self, *values, **named)

    return compile_and_call


class _Frozen:
    """What the standard library gives every frozen class with slots."""

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self: Any) -> list[object]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def __setstate__(self: Any, state: list[object]) -> None:
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)
