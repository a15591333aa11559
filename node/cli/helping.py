"""What `--help` prints: the commands and their flags, drawn by Typer."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from typer.main import get_command

from node.cli.flags import Command, Parameter

_ABOUT = "Tidegate: a Socket.IO chat cluster on an event log. Everything that a node does follows from the log."


def show_help(commands: Mapping[str, Command], arguments: Sequence[str]) -> None:
    """Print the help of the command that `arguments` begin with, or of all."""
    app = typer.Typer(name="tidegate", help=_ABOUT, add_completion=False, rich_markup_mode="rich")
    app.callback()(_everything)
    for name, command in commands.items():
        app.command(name, help=escape(command.help))(_signed(command.parameters().values()))
    get_command(app).main([*arguments, "--help"], prog_name="tidegate", standalone_mode=False)


def _everything(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Typer asks for a function; flags are read elsewhere (`node.cli.flags`)."""


def _signed(parameters: Iterable[Parameter]) -> Callable[..., None]:
    """A function with the signature that Typer draws the flags from."""

    def callback(**_: Any) -> None:
        """Never called: flags are read elsewhere (`node.cli.flags`)."""

    keyword = inspect.Parameter.KEYWORD_ONLY
    signed = [inspect.Parameter(p.name, keyword, default=... if p.required else None, annotation=_hint(p)) for p in parameters]
    callback.__signature__ = inspect.Signature(signed)  # type: ignore[attr-defined]
    callback.__annotations__ = {p.name: p.annotation for p in signed}
    return callback


def _hint(parameter: Parameter) -> Any:
    text = escape(parameter.takes.meaning + parameter.note)
    shown = parameter.takes.shown or None
    if parameter.takes.word:
        return Annotated[Optional[str], typer.Argument(metavar=shown, help=text, show_default=False)]  # noqa: UP045
    kind: Any = bool if parameter.takes.kind is None else str
    option = typer.Option(parameter.label, metavar=shown, help=text, show_default=False, rich_help_panel=parameter.panel)
    return Annotated[Optional[kind], option]  # noqa: UP045
