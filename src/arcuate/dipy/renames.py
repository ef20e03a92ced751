"""Argument names that DIPY gave up, and that tutorials on the web still use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from arcuate.errors import warn

F = TypeVar("F", bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[F], F]:
    """Accept former argument names (former="present") with a DeprecationWarning; both together are an error."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_former_names(*args: Any, **kwargs: Any) -> Any:
            for former in kwargs.keys() & names.keys():
                present = names[former]
                if present in kwargs:
                    raise TypeError(f"{function.__qualname__}() was given {former} and {present}; give {present} alone")
                warn(
                    f"{former} is called {present} in today's DIPY and here; write {present}=... instead.",
                    DeprecationWarning,
                )
                kwargs[present] = kwargs.pop(former)
            return function(*args, **kwargs)

        return with_former_names  # type: ignore[return-value]

    return decorate
