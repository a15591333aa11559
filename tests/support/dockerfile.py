"""The Dockerfile as it is written: its stages, what each instruction says, and which files its context has."""

import re
import shlex
import subprocess
from pathlib import Path

import msgspec

from tests.support.nodes import ROOT

_CONTINUED = re.compile(r"\\\n")


class Instruction(msgspec.Struct, frozen=True):
    """`COPY --from=page a b` has the word COPY, the flags {"from": "page"} and the rest `a b`."""

    word: str
    flags: dict[str, str]
    rest: str

    @property
    def exec_form(self) -> list[str]:
        """The command in brackets. Raises `msgspec.DecodeError` where it is in the shell's form."""
        return msgspec.json.decode(self.rest, type=list[str])

    @property
    def words(self) -> list[str]:
        return self.rest.split()


class Stage(msgspec.Struct, frozen=True):
    """From one FROM to the next."""

    name: str
    image: str
    instructions: list[Instruction]

    def all(self, word: str) -> list[Instruction]:
        return [one for one in self.instructions if one.word == word]

    def last(self, word: str) -> Instruction:
        return self.all(word)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for one in self.all("ENV") for pair in shlex.split(one.rest))
        return {name: value for name, _, value in pairs}


def stages() -> dict[str, Stage]:
    """The stages by name, in their order."""
    found: dict[str, Stage] = {}
    for instruction in _instructions((ROOT / "Dockerfile").read_text()):
        if instruction.word == "FROM":
            image, as_, name = instruction.words
            assert as_ == "AS", "every stage has a name"
            found[name] = stage = Stage(name, image, [])
        else:
            stage.instructions.append(instruction)
    return found


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [_instruction(line) for line in _CONTINUED.sub(" ", "\n".join(lines)).splitlines()]


def _instruction(line: str) -> Instruction:
    word, _, rest = line.partition(" ")
    flags: dict[str, str] = {}
    while (found := re.match(r"\s*--([a-z-]+)=(\S+)", rest)) is not None:
        flags[found[1]] = found[2]
        rest = rest[found.end() :]
    if word == "HEALTHCHECK":
        rest = rest.strip().removeprefix("CMD")
    return Instruction(word, flags, rest.strip())


def in_context(path: str) -> bool:
    """Whether a file or folder of the repository is sent to the builder: the last line of .dockerignore that fits it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        if _fits(pattern.removeprefix("!"), path):
            sent = pattern.startswith("!")
    return sent


def _fits(pattern: str, path: str) -> bool:
    """A pattern fits what it names, and all that is below."""
    translated = "".join(
        {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", pattern)
    )
    return re.fullmatch(rf"{translated}(/.*)?", path) is not None


def tracked(folder: Path = ROOT) -> list[str]:
    """What a clean clone has, below a folder: git's own list, as paths from the top."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.split("\0") if path]
