"""How a command reads its flags: every problem at once, one line each, in the words of the settings.

A command is a function whose parameters are annotated with `Takes`. The settings that it names are read by `node.config.load`
from flags of the same words and from the environment, and come as its first argument.
"""

import difflib
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from node.cli.screen import counted
from node.config import SETTINGS, ConfigurationError, Setting, Settings, load
from node.config_values import Taken, quoted
from node.core.limits import Limits

_UNSAID = (inspect.Parameter.empty, None, False, (), "")  # defaults that the help does not tell


class Takes(msgspec.Struct, frozen=True, kw_only=True):
    """What a command's own flag is: `shown` stands for its value in the help, `kind` None makes a switch of it.

    `several`: it may be given more than once; `many`: everything up to the next flag belongs to it, too.
    """

    meaning: str
    shown: str = ""
    kind: Taken | None = None
    word: bool = False  # an argument, given by its place
    several: bool = False
    many: bool = False


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A flag or an argument of one command. `label` is `--port` or `USER`."""

    name: str
    label: str
    takes: Takes
    required: bool = False
    note: str = ""  # for the help: the default, the variable
    panel: str = "Options"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A command line as it was read: the texts of each parameter, and what was wrong with it."""

    texts: dict[str, list[str]]
    problems: list[str]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command: `run(settings, **own flags)` returns its exit code; `settings` names those that it has as flags.

    `serving` asks for what a node needs. With `judged` False `run` gets the `ConfigurationError` in the settings' place where there
    is one, instead of not being called.
    """

    run: Callable[..., int]
    settings: Iterable[str] = ()
    serving: bool = False
    judged: bool = True

    @property
    def log_beside_data(self) -> bool:
        """Whether `--data DIR` alone means the cluster that `tidegate up --data DIR` keeps there, its log included."""
        return not self.serving and {"log", "data"} <= set(self.settings)

    @property
    def help(self) -> str:
        """What the command does, as its `--help` says it."""
        return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(self.run) or "")  # its lines are the source's, not the terminal's

    def parameters(self) -> dict[str, Parameter]:
        """Its own flags and arguments, then those of its settings."""
        own = [_own(parameter, takes) for parameter, takes in _annotated(self.run)]
        found = {p.name: p for p in [*own, *(row for name in self.settings for row in _of_setting(SETTINGS[name]))]}
        if self.log_beside_data:
            note = f" (default: log.db in --data where that is given, else as a node, {SETTINGS['log'].variable})"
            found["log"] = msgspec.structs.replace(found["log"], note=note)
        return found


def call(command: Command, name: str, arguments: Sequence[str]) -> int:
    """Read the command line and run the command. Raises `ConfigurationError` with everything that is wrong with flags and variables."""
    parameters = command.parameters()
    given = read(arguments, parameters.values(), f"tidegate {name}")
    problems = list(given.problems)
    owned = {parameter.name for parameter, _ in _annotated(command.run)}
    flags = {n: texts[-1] for n, texts in given.texts.items() if n not in owned}
    own = {n: _value(parameters[n], texts, problems) for n, texts in given.texts.items() if n in owned}
    if command.log_beside_data:
        _log_beside_data(flags)
    settings: Settings | ConfigurationError
    try:
        settings = load(flags, serving=command.serving)
    except ConfigurationError as error:
        settings = error
        problems += error.problems if command.judged else []
    if problems:
        raise ConfigurationError(problems)
    return command.run(settings, **own)


def read(arguments: Sequence[str], parameters: Iterable[Parameter], path: str) -> Given:
    """Read the command line of `path` (`tidegate up`). What it cannot place is never quoted: it may be a secret."""
    parameters = tuple(parameters)
    flags = {p.label: p for p in parameters if not p.takes.word}
    words = [p for p in parameters if p.takes.word]
    texts: dict[str, list[str]] = {}
    problems: list[str] = []
    plain: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            plain += rest
            break
        if not argument.startswith("-") or argument == "-":
            plain.append(argument)
            continue
        label, equals, value = argument.partition("=")
        flag = flags.get(label)
        if flag is None:
            problems.append(f"{label}: is not a flag of `{path}`{_nearest(label, flags)}")
            if not equals and rest and not rest[0].startswith("-") and len(plain) >= len(words):
                rest.pop(0)  # its value
        elif flag.takes.kind is None:
            texts[flag.name] = ["1"]
            problems += [f"{label}: takes no value, got {quoted(value)}"] if equals else []
        elif equals or (rest and rest[0].partition("=")[0] not in flags):
            texts.setdefault(flag.name, []).append(value if equals else rest.pop(0))
            while flag.takes.many and rest and not rest[0].startswith("-"):
                texts[flag.name].append(rest.pop(0))
        else:
            problems.append(f"{label}: takes {flag.takes.kind.takes}, got nothing")
    return Given(texts=texts | _placed(plain, words, path, problems), problems=problems)


def _nearest(label: str, flags: Mapping[str, Parameter]) -> str:
    close = difflib.get_close_matches(label, flags, n=1, cutoff=0.6)
    if not close:
        return ""
    kind = flags[close[0]].takes.kind
    return f"; did you mean {close[0]}" + (f", which takes {kind.takes}?" if kind else "?")


def _placed(plain: Sequence[str], words: Sequence[Parameter], path: str, problems: list[str]) -> dict[str, list[str]]:
    if len(plain) > len(words):
        expected = " ".join(word.label for word in words) or "no arguments besides its flags"
        problems.append(f"`{path}`: takes {expected}, got {counted(len(plain), 'argument')}")
    missing = [word for word in words[len(plain) :] if word.required]
    problems += [f"{word.label}: takes {word.takes.kind.takes}, got nothing" for word in missing if word.takes.kind]
    return {word.name: [text] for word, text in zip(words, plain, strict=False)}


def _value(parameter: Parameter, texts: Sequence[str], problems: list[str]) -> Any:
    kind = parameter.takes.kind
    if kind is None:
        return True
    values = []
    for text in texts:
        try:
            values.append(kind.parse(text))
        except ValueError as error:
            problems.append(f"{parameter.label}: takes {kind.takes}, got {error}")
    return tuple(values) if parameter.takes.several or parameter.takes.many else values[-1] if values else None


def _log_beside_data(flags: dict[str, str]) -> None:
    variable = SETTINGS["log"].variable
    if flags.get("data") and not {"log", "log_file"} & set(flags) and not {variable, f"{variable}_FILE"} & set(os.environ):
        flags["log"] = f"sqlite:///{quote(flags['data'].rstrip('/'))}/log.db"


def _annotated(function: Callable[..., int]) -> Iterable[tuple[inspect.Parameter, Takes]]:
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        metadata: tuple[Any, ...] = getattr(hints.get(parameter.name), "__metadata__", ())
        yield from ((parameter, takes) for takes in metadata if isinstance(takes, Takes))


def _own(parameter: inspect.Parameter, takes: Takes) -> Parameter:
    return Parameter(
        name=parameter.name,
        label=takes.shown if takes.word else "--" + parameter.name.rstrip("_").replace("_", "-"),
        takes=takes,
        required=parameter.default is inspect.Parameter.empty,
        note=f" (default: {parameter.default})" if parameter.default not in _UNSAID else "",
    )


def _of_setting(setting: Setting) -> Iterable[Parameter]:
    """The flags of one setting: plain, and for a secret that of its file."""
    kind = Taken(setting.takes, setting.parse)
    default = f"default: {setting.default}, " if setting.default else ""
    panel = "Limits" if setting.name in Limits.__struct_fields__ else "Settings"
    yield Parameter(
        name=setting.name,
        label=setting.flag,
        takes=Takes(meaning=f"{setting.meaning}: {setting.takes}", shown="VALUE", kind=kind),
        note=f" ({default}{setting.variable})",
        panel=panel,
    )
    if setting.from_file:
        path = Taken("the path of a file", str)
        yield Parameter(
            name=f"{setting.name}_file",
            label=f"{setting.flag}-file",
            takes=Takes(meaning=f"a file that holds the value of {setting.flag}", shown="FILE", kind=path),
            note=f" ({setting.variable}_FILE)",
            panel=panel,
        )
