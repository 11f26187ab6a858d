"""Dataclasses whose methods are compiled late behave as those of the standard library."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from keepaliveD.model.dataclass import dataclass

T = TypeVar("T")
Made = tuple[type[Any], type[Any]]


def as_it_is(decorate: Callable[..., Any]) -> Made:
    """A class with all that a dataclass can have, and one that is compared by identity; both made by this decorator."""

    @decorate(frozen=True, slots=True)
    class Shape(Generic[T]):
        """A shape."""

        kind: ClassVar[str] = "shape"
        name: str
        size: T
        tags: list[str] = field(default_factory=list, compare=False)
        hidden: int = field(default=7, repr=False)
        derived: int = field(init=False, hash=False)
        deep: bool = field(default=False, kw_only=True)

        def __post_init__(self) -> None:
            object.__setattr__(self, "derived", len(self.name))

        @property
        def title(self) -> str:
            return self.name.title()

    @decorate(frozen=True, slots=True, eq=False)
    class Single:
        """A thing that equals itself alone."""

        value: int = 0

    return Shape, Single


Late, LateSingle = as_it_is(dataclass)
Late.__qualname__, LateSingle.__qualname__ = "Late", "LateSingle"  # by these names pickle finds them


def refused(work: Callable[[], object]) -> str:
    """What the error says, with its type."""
    with pytest.raises((TypeError, AttributeError)) as error:
        work()
    return f"{error.type.__name__}: {error.value}"


OBSERVED: dict[str, Callable[[Any], object]] = {
    "representation": lambda made: repr(made("a", 2)),
    "fields": lambda made: [(each.name, each.type, each.default, each.init) for each in dataclasses.fields(made)],
    "names of its methods": lambda made: (made("a", 2), made.__init__.__qualname__)[1],
    "places": lambda made: made.__slots__,
    "patterns": lambda made: made.__match_args__,
    "documentation": lambda made: made.__doc__,
    "own methods": lambda made: made("a", 2).title,
    "class variables": lambda made: made.kind,
    "as a dictionary": lambda made: dataclasses.asdict(made("a", 2, ["x"], deep=True)),
    "as a tuple": lambda made: dataclasses.astuple(made("a", 2)),
    "replaced": lambda made: dataclasses.astuple(dataclasses.replace(made("a", 2), name="abc")),
    "equal": lambda made: made("a", 2) == made("a", 2, ["other"]),
    "unequal": lambda made: made("a", 2) == made("a", 3),
    "unequal to another class": lambda made: made("a", 2) == ("a", 2, [], 7, 1, False),
    "hash": lambda made: hash(made("a", 2, ["x"])),
    "hash of what has none": lambda made: refused(lambda: hash(made("a", []))),
    "own defaults": lambda made: made("a", 2).tags is made("a", 2).tags,
    "too few values": lambda made: refused(lambda: made("a")),
    "too many values": lambda made: refused(lambda: made("a", 2, [], 7, 1)),
    "unknown value": lambda made: refused(lambda: made("a", 2, size_=3)),
    "assignment": lambda made: refused(lambda: setattr(made("a", 2), "name", "b")),
    "deletion": lambda made: refused(lambda: delattr(made("a", 2), "name")),
    "shallow copy": lambda made: copy.copy(made("a", 2)) == made("a", 2),
    "deep copy": lambda made: copy.deepcopy(made("a", 2, [["x"]])).tags,
}


@pytest.mark.parametrize("what", OBSERVED)
def test_a_late_class_shows_what_one_of_the_standard_library_shows(what: str) -> None:
    ours, theirs = as_it_is(dataclass)[0], as_it_is(dataclasses.dataclass)[0]  # fresh, so that each method is late
    for _ in range(2):  # late, and compiled
        assert OBSERVED[what](ours) == OBSERVED[what](theirs)


@pytest.mark.parametrize("make", [dataclass, dataclasses.dataclass])
def test_of_two_alike_that_are_compared_by_identity_each_equals_itself_alone(make: Callable[..., Any]) -> None:
    single = as_it_is(make)[1]
    one, other = single(1), single(1)
    same = one
    assert (one == same, one == other, hash(one) == hash(same)) == (True, False, True)
    assert repr(one) == "as_it_is.<locals>.Single(value=1)"


def test_what_is_frozen_cannot_get_a_further_attribute() -> None:
    with pytest.raises(FrozenInstanceError):
        LateSingle(1).other = 2


def test_a_pickle_brings_back_an_equal_one() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Late("a", 2, deep=True), protocol)) == Late("a", 2, deep=True)
    assert pickle.loads(pickle.dumps(LateSingle(3))).value == 3


def test_a_match_takes_it_apart() -> None:
    match LateSingle(3):
        case LateSingle(value):
            assert value == 3


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"slots": True}])
def test_a_class_that_is_not_frozen_or_has_no_slots_is_the_standard_librarys(options: dict[str, bool]) -> None:
    @dataclass(**options)
    class Plain:
        """A thing."""

        value: int

    assert (Plain(1), hasattr(Plain(1), "__dict__")) == (Plain(1), "slots" not in options)
    assert (Plain.__hash__ is None) == ("frozen" not in options)


def test_nothing_is_compiled_before_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exec() takes a good part of a millisecond, at every start."""
    compiled: list[str] = []
    really = builtins.exec

    def run(text: str, *places: Any) -> None:
        compiled.append(text)
        really(text, *places)

    monkeypatch.setattr(builtins, "exec", run)
    _, single = as_it_is(dataclass)
    assert compiled == []
    one = single(1)
    assert any("__init__" in text for text in compiled)
    assert not any("__repr__" in text for text in compiled)
    assert repr(one).endswith("(value=1)")
    before = len(compiled)
    assert repr(single(2)).endswith("(value=2)")
    assert len(compiled) == before


def test_many_threads_may_make_the_first_instance_at_once() -> None:
    shape, _ = as_it_is(dataclass)
    start, made = threading.Barrier(8), []

    def make(number: int) -> None:
        start.wait()
        made.append(shape("a", number))

    threads = [threading.Thread(target=make, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.size for one in made} == set(range(8))
    assert made[0] == shape("a", made[0].size)
