"""Where RabbitMQ is on this machine, and a home made of it from which a broker boots fast."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

_DEBIAN = Path("/usr/lib/rabbitmq/lib")
_FIRST = ("rabbit", "rabbitmq_prelaunch")
_ERLANG = "asn1,compiler,crypto,inets,kernel,mnesia,os_mon,public_key,sasl,ssl,stdlib,syntax_tools,tools,xmerl"
#: Erlang code that a broker runs before anything else. Left alone it loads a thousand modules at its boot, one by one, and Erlang copies
#: a table at each: whole libraries at once take a third less of the processor. The variable is for Erlang's other processes, that the
#: broker starts: they need none of it, and must not start a port mapper.
PRELOAD = f"""-eval '
os:putenv("ERL_AFLAGS","-start_epmd false"),
[code:ensure_modules_loaded([list_to_atom(filename:basename(F,".beam"))||F<-filelib:wildcard(D++"/*.beam")])
||D<-filelib:wildcard(os:getenv("ERL_LIBS")++"/*/ebin")++[code:lib_dir(A,ebin)||A<-[{_ERLANG}]]]
'"""


def installed() -> Path:
    """The folder with RabbitMQ's `sbin` and `plugins`. Its commands run as any user, where Debian's in the PATH insist on their own."""
    found = shutil.which("rabbitmq-server")
    places = [Path(found).resolve().parents[1]] if found else []
    places += sorted(_DEBIAN.glob("rabbitmq_server-*"), reverse=True)
    for place in places:
        if (place / "plugins").is_dir() and (place / "sbin" / "rabbitmq-server").is_file():
            return place
    raise AssertionError("these tests need RabbitMQ")


def make_home(home: Path, plugins: Sequence[str] = ()) -> Path:
    """A folder like the installed one, of links to it, but with only those libraries that a broker with these plugins needs; returns it.

    RabbitMQ looks for each of its thousand modules in the folder of one library after the other: with 20 libraries instead of 70 a broker
    boots in half the time.
    """
    source = installed()
    (home / "plugins").mkdir(parents=True, exist_ok=True)
    for name in ("sbin", "escript"):
        _link(home / name, source / name)
    for library in _needed(source / "plugins", plugins):
        _link(home / "plugins" / library.name, library)
    return home


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)


def _needed(folder: Path, plugins: Sequence[str]) -> list[Path]:
    """The libraries that the broker itself and these plugins start, and theirs."""
    found = {described.stem: described for described in sorted(folder.glob("*/ebin/*.app"))}
    needed: dict[str, Path] = {}
    wanted = [*_FIRST, *plugins]
    while wanted:
        name = wanted.pop()
        if name in found and name not in needed:
            needed[name] = found[name].parents[1]
            listed = re.search(r"\{applications,\s*\[(.*?)\]", found[name].read_text(), re.DOTALL)
            wanted += re.findall(r"\w+", listed[1]) if listed else []
    assert "rabbit" in needed, f"no broker in {folder}"
    return list(needed.values())
