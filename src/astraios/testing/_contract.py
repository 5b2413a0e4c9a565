"""What a contract is made of: named properties, each of which holds for a part or says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, NoReturn, TypeVar

from astraios.errors import AstraiosError, ContractError

__all__ = [
    "Kept",
    "NotApplicable",
    "Property",
    "checked",
    "fail",
    "properties",
    "refused",
    "require",
]

S = TypeVar("S")


class NotApplicable(Exception):  # noqa: N818 -- no error: it is the reason of a skip
    """A property is none of the part's; says why."""


@dataclass(frozen=True)
class Property(Generic[S]):
    """One promise of a kind of part."""

    name: str
    """What holds, in words."""
    check: Callable[[S], object]
    """Raises `ContractError` if it does not, `NotApplicable` if it is none of the part's."""


@dataclass(frozen=True)
class Kept:
    """What a part was found to keep."""

    held: tuple[str, ...]
    """Names of properties, in the order of the contract."""
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Property that is none of the part's -> why."""


def properties(*checks: Callable[[S], object]) -> tuple[Property[S], ...]:
    """Functions as properties, called like the functions."""
    return tuple(Property(check.__name__.lstrip("_").replace("_", " "), check) for check in checks)


def checked(part: str, contract: Iterable[Property[S]], subject: S) -> Kept:
    """Hold `subject` to every property.

    Args:
        part: what is checked, for the message: `method 'lora'`.
        contract: the promises of its kind.
        subject: what they are asked of.

    Raises:
        ContractError: with every property that does not hold, and what was seen.
    """
    held: list[str] = []
    left_out: dict[str, str] = {}
    broken: list[str] = []
    for one in contract:
        try:
            one.check(subject)
        except NotApplicable as reason:
            left_out[one.name] = str(reason)
        except Exception as error:  # whatever the code of another project raises
            broken.append(f"  {one.name}: {told(error)}")
        else:
            held.append(one.name)
    if broken:
        n = len(broken) + len(held)
        raise ContractError(
            f"{part} keeps {len(held)} of the {n} properties of its kind, and not\n"
            + "\n".join(broken)
        )
    return Kept(tuple(held), MappingProxyType(left_out))


def told(error: Exception) -> str:
    """The message of a broken promise, with the type of an error that nobody raised on purpose."""
    text = str(error).replace("\n", "\n    ")
    return text if isinstance(error, AstraiosError) else f"{type(error).__name__}: {text}"


def require(holds: object, message: str) -> None:
    """Break the contract unless `holds`."""
    if not holds:
        fail(message)


def fail(message: str) -> NoReturn:
    """Break the contract."""
    raise ContractError(message)


def refused(
    act: Callable[[], object], error: type[AstraiosError], *words: str, what: str
) -> AstraiosError:
    """The error of type `error` that `act` has to raise, with all `words` in its message.

    Args:
        act: what must be refused.
        error: the type.
        words: parts of the message: the thing, the place or the remedy.
        what: what `act` does, for the message.

    Raises:
        ContractError: if it raises nothing, something else, or says too little.
    """
    try:
        act()
    except error as found:
        missing = [word for word in words if word not in str(found)]
        require(not missing, f"{what} is refused without naming {', '.join(missing)}: {found}")
        return found
    except Exception as found:
        fail(f"{what} raises {type(found).__name__}, not {error.__name__}: {found}")
    fail(f"{what} is not refused; raise {error.__name__}")
