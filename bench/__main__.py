"""`python -m bench` runs every benchmark, one after the other; `python -m bench NAME ...` runs these."""

import importlib
import pkgutil
import sys
from collections.abc import Callable

import bench


def benchmarks() -> dict[str, tuple[str, Callable[[], None]]]:
    """By name: what it measures, and what runs it. A benchmark is a module of this package that has a `main`."""
    found = {}
    for module_info in pkgutil.iter_modules(bench.__path__):
        if module_info.name == "__main__":
            continue
        module = importlib.import_module(f"bench.{module_info.name}")
        if callable(run := getattr(module, "main", None)):
            found[module_info.name] = ((module.__doc__ or "").partition("\n")[0], run)
    return found


def main(names: list[str]) -> int:
    """Run the benchmarks with these names, or all of them; 2 when one is unknown."""
    known = benchmarks()
    if unknown := [name for name in names if name not in known]:
        print(f"no benchmark {', '.join(unknown)}; there is {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    for name in names or sorted(known):
        title, run = known[name]
        print(f"{name}: {title}", flush=True)
        run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
