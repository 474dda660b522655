"""The command group, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from geoasanet import __version__
from geoasanet.cli.console import shortened
from geoasanet.errors import GeoASANetError
from geoasanet.interrupt import garbled, never_lost, unfinished
from geoasanet.printable import printable
from geoasanet.processor import choose_openblas_kernels

COMMANDS = (
    "tile",
    "train",
    "predict",
    "vectorize",
    "view",
    "eval",
    "info",
    "convert",
    "export",
    "models",
    "benchmark",
    "demo",
)
"""Commands in the order of the help page; each is a module of this package with a ``command``."""


class Group(click.Group):
    """Finds commands in modules of their own and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return command names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called ``cmd_name``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"geoasanet.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; an unknown one is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1) if args else []
            if near and near[0] not in error.message:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; see the exit codes in the group's help."""
        words = sys.argv[1:] if args is None else args
        debug = "--debug" in words
        if not debug:  # what GDAL would say beside our own words; it reads this once, when it first speaks
            os.environ.setdefault("CPL_LOG", os.devnull)
        choose_openblas_kernels()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            with never_lost():
                code = super().main(args, prog_name, complete_var, False, **extra)
            self._leave(code if isinstance(code, int) else 0)
        except click.exceptions.Exit as exit_:
            self._leave(exit_.exit_code)
        except click.Abort as abort:  # click's for KeyboardInterrupt
            more = str(abort.__cause__ or "")
            self._fail(f"Interrupted; {more}." if more else "Interrupted.", 130)
        except click.ClickException as error:
            page = io.StringIO()
            error.show(file=page)
            click.echo(printable(page.getvalue()), err=True, nl=False)
            self._leave(error.exit_code)
        except GeoASANetError as error:
            if debug:
                raise
            self._fail(f"Error: {' '.join(str(error).split())}", 1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._leave(1)
        except MemoryError:
            if debug:
                raise
            self._fail("Error: not enough memory. Use a smaller --batch-size, or a machine with more memory.", 1)
        except Exception as error:
            if garbled(error):
                self._fail("Interrupted.", 130)
            if debug:
                raise
            text = " ".join(str(error).split())
            self._fail(
                f"Error: unexpected {type(error).__name__}: {text}. This is a bug in geoasanet; "
                "repeat the command with --debug and report what it prints.",
                1,
            )

    @staticmethod
    def _fail(message: str, code: int) -> None:
        click.echo(printable(shortened(message)), err=True)
        if unfinished():  # a library is still writing a temporary file, and would be waited for
            sys.stderr.flush()
            os._exit(code)
        Group._leave(code)

    @staticmethod
    def _leave(code: int) -> None:
        sys.exit(code)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
)
@click.version_option(__version__, prog_name="geoasanet")
@click.option("-v", "--verbose", count=True, help="Say more on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(ctx: click.Context, verbose: int, quiet: bool, debug: bool) -> None:
    """Land-cover maps and polygons from whole optical + SAR scenes.

    \b
    geoasanet predict scene_rgb.tif scene_sar.tif    a classified GeoTIFF
    geoasanet vectorize                              its polygons
    geoasanet demo                                   the whole chain on a synthetic scene
    """
    ctx.obj = {"verbose": verbose, "quiet": quiet, "debug": debug}
