"""How do commands talk to a shell? Tables, JSON, progress and errors, alike for all of them."""

from __future__ import annotations

import configparser
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

OFF_TERMINAL_WIDTH = 160
WORD_EVERY_S = 2.0
FOUND_TROUBLE, WRONG_USE, INTERRUPTED = 1, 2, 130
EXIT_CODES = (
    "Exit codes of all commands: 0, all is well; 1, the command ran and found trouble, or something failed; "
    "2, an argument, a file or a setting can't be used; 130, Ctrl-C. "
    "With --output json, standard output is one JSON document; progress and errors go to standard error."
)

Output = Annotated[Literal["table", "json"], typer.Option(help="Form of what is printed.")]


class Commands(TyperGroup):
    """Commands whose files, folders and ``airflow.cfg`` that can't be used are named in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if not error.filename:
                raise
            typer.echo(f"fate: {error.filename}: {error.strerror}", err=True)
            raise typer.Exit(FOUND_TROUBLE) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # By its name: importing Airflow for its class would take every command a second.
            if not isinstance(error, configparser.Error) and type(error).__name__ != "AirflowConfigException":
                raise
            typer.echo(f"fate: Airflow's settings can't be used: {error}".replace("\n", " "), err=True)
            raise typer.Exit(WRONG_USE) from error


def fail(command: str, message: object, code: int = FOUND_TROUBLE) -> NoReturn:
    """End a command with one sentence on standard error."""
    typer.echo(f"fate {command}: {message}", err=True)
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def print_result(output: str, document: Any, line: str) -> None:
    """Print the document as JSON, or the line that says the same to a person."""
    if output == "json":
        print_json(document)
    else:
        typer.echo(line)


def console(stderr: bool = False) -> Console:
    """A console that takes no text for markup: names and reasons have brackets, too."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, markup=False, highlight=False, width=None if is_terminal else OFF_TERMINAL_WIDTH)


class Steps:
    """How far is a command, on standard error? A bar on a terminal, elsewhere a line every two seconds."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self._title = title
        self._total = total
        self._done = done
        self._what = ""
        self._console = console(stderr=True)
        words = TextColumn("{task.description}", markup=False)
        self._progress = Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words, console=self._console)
        self._bar = self._progress.add_task(title, total=total, completed=done)
        self._stop = ExitStack()

    def step(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        self._what = f", {what}"
        self._progress.update(self._bar, advance=1, description=what)

    def tell(self, message: str) -> None:
        """Something that stays to be read."""
        self._progress.console.print(message, soft_wrap=True)

    def __enter__(self) -> Steps:
        shown = self._progress if self._console.is_terminal else _lines(self._console, self._line)
        self._stop.enter_context(shown)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        if not self._console.is_terminal:
            self.tell(self._line())

    def _line(self) -> str:
        return f"{self._title}: {self._done} of {self._total}{self._what}"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Something takes its time: a spinner on a terminal, elsewhere a line every two seconds; on standard error."""
    stderr = console(stderr=True)
    with stderr.status(what) if stderr.is_terminal else _lines(stderr, lambda: what):
        yield


@contextmanager
def _lines(stderr: Console, line: Callable[[], str]) -> Iterator[None]:
    """A line at once, and every two seconds inside."""
    began_s, over = time.monotonic(), threading.Event()
    stderr.print(line(), soft_wrap=True)

    def go_on() -> None:
        while not over.wait(WORD_EVERY_S):
            stderr.print(f"{line()} ({time.monotonic() - began_s:.0f} s)", soft_wrap=True)

    teller = threading.Thread(target=go_on, name="fate-show", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
