"""Settings of any source or sink, turned on: found from the types, so that a new one is covered without being listed."""

from typing import Any, Protocol, TypeVar

import msgspec

from sidecar.settings.section import Section, Url


class Switchable(Protocol):
    def configured(self) -> bool: ...


T = TypeVar("T", bound=Section)


def switched_on(kind: type[T]) -> T:
    """The defaults of a kind with the one setting that turns it on; nothing answers at the address it names."""
    for field in msgspec.structs.fields(kind):
        settings: Any = kind(**{field.name: _example(field.type)})
        if settings.configured():
            return settings  # type: ignore[no-any-return]
    raise AssertionError(f"no single setting turns {kind.__name__} on")


def _example(kind: Any) -> Any:
    url = next((mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Url)), None)
    if url is not None:
        return f"{url.schemes[0]}://127.0.0.1:9"
    return {bool: True, str: "unix:///nowhere/x"}.get(kind, msgspec.UNSET)
