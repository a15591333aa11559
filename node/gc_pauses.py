"""How long the garbage collector holds everything up: with a large heap a full collection is a pause that users feel."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal


@contextlib.contextmanager
def watched(observe: Callable[[str, float], None]) -> Iterator[None]:
    """Tell `observe(generation, seconds)` of each collection in this process; in whichever thread it happens, one at a time."""
    began = 0.0

    def told(phase: Literal["start", "stop"], info: dict[str, Any]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            observe(str(info["generation"]), time.perf_counter() - began)

    gc.callbacks.append(told)
    try:
        yield
    finally:
        gc.callbacks.remove(told)
