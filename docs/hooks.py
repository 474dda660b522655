"""Pages that MkDocs makes anew at every build from what they are about, so that they cannot go stale.

``commands/``     one page for each command, from the click commands themselves
``python.md``     the public functions and classes, from the package's list of names
``checkpoints/``  model cards of the packaged checkpoints
``results/``      measurements, copied from ``scripts/results``
``changelog.md``  from ``CHANGELOG.md``
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import geoasanet
from geoasanet.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "scripts/results"
CHECKPOINTS = ROOT / "geoasanet/checkpoints"
PYTHON_NAMES = {"eval": "evaluate", "models": "list_models"}
"""Functions that are called otherwise than their command."""

_ROLE = re.compile(r":(?:py:)?(?:func|class|mod|data|attr|meth|exc):<code>~?([^<]*)</code>")


class _Markdown(click.HelpFormatter):
    """Takes what a command writes below its options: sections of terms with their meaning."""

    def write_heading(self, heading: str) -> None:
        """Write the title of a section."""
        self.write(f"## {heading}\n\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms as a table."""
        self.write("| name | what it is |\n| --- | --- |\n")
        self.write("".join(f"| `{term}` | {_plain(meaning)} |\n" for term, meaning in rows))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the generated pages in the navigation."""
    sections = {
        "Commands": ["commands/index.md", *({name: f"commands/{name}.md"} for name in COMMANDS)],
        "Checkpoints": [{path.stem: f"checkpoints/{path.name}"} for path in sorted(CHECKPOINTS.glob("*.md"))],
        "Measured": ["results/index.md", *({_title(path): f"results/{path.name}"} for path in _tables())],
    }
    assert config.nav is not None
    for entry in config.nav:
        for title in sections.keys() & (entry if isinstance(entry, dict) else ()):
            entry[title] = sections[title]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the pictures and tables that they show."""
    pages = {"commands/index.md": commands_page(), "changelog.md": _changelog()}
    pages |= {f"commands/{name}.md": command_page(name) for name in COMMANDS}
    pages |= {f"checkpoints/{path.name}": _checkpoint(path) for path in CHECKPOINTS.glob("*.md")}
    pages |= {f"results/{path.name}": path.read_text(encoding="utf-8") for path in _tables()}
    pages["results/index.md"] = (RESULTS / "README.md").read_text(encoding="utf-8")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for path in sorted(RESULTS.iterdir()):
        if path.suffix in {".png", ".json"}:
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Add the reference to the page on Python."""
    return f"{markdown}\n\n{python_reference()}\n" if page.file.src_uri == "python.md" else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Turn the references in docstrings, which mkdocstrings leaves as they are, into code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def commands_page() -> str:
    """Return the page that lists all commands."""
    context = click.Context(main, info_name="geoasanet")
    rows = [f"| [{name}]({name}.md) | {_plain(_command(name).get_short_help_str(200))} |" for name in COMMANDS]
    return "\n".join(
        [
            "# Commands\n",
            "These pages are made from the program itself: they say what `geoasanet COMMAND --help` says.\n",
            *_paragraphs(main.help or ""),
            "| command | what it does |\n| --- | --- |",
            *rows,
            "\n" + (main.epilog or "") + "\n",
            *_options(main, context),
        ]
    )


def command_page(name: str) -> str:
    """Return the page of one command."""
    command = _command(name)
    context = click.Context(command, info_name=name, parent=click.Context(main, info_name="geoasanet"))
    usage = " ".join(command.collect_usage_pieces(context))
    function = PYTHON_NAMES.get(name, name)
    lines = [
        f"# geoasanet {name}\n",
        *_paragraphs(command.help or ""),
        f"```text\nUsage: {context.command_path} {usage}\n```\n",
        *_options(command, context),
    ]
    epilog = _Markdown()
    command.format_epilog(context, epilog)
    lines.append(epilog.getvalue())
    if function in geoasanet.__all__:
        lines.append(f"From Python: [`geoasanet.{function}`](../python.md#{_home(function)}.{function}).\n")
    return "\n".join(lines)


def python_reference() -> str:
    """Return the part of the Python page that lists public functions and classes, and what the functions return."""
    functions = [name for name in geoasanet.__all__ if name[0].islower()]
    classes = [name for name in geoasanet.__all__ if name[0].isupper()]
    sections = {
        "Functions": [f"{_home(name)}.{name}" for name in functions],
        "Classes": [f"{_home(name)}.{name}" for name in classes],
        "What functions return": list(dict.fromkeys(path for name in functions for path in _results(name))),
    }
    blocks = [[f"## {title}", *(f"::: {path}" for path in paths)] for title, paths in sections.items()]
    return "\n\n".join(line for block in blocks for line in block)


def _command(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those that click leaves unwrapped (marked by backspace) are commands."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if part.startswith("\b"):
            yield "```bash\n" + part.removeprefix("\b").strip("\n") + "\n```\n"
        else:
            yield _plain(part) + "\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a table of options with their values and defaults."""
    yield "| option | what it does |\n| --- | --- |"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:
            yield f"| `{record[0]}` | {_plain(record[1])} |"
    yield ""


def _plain(text: str) -> str:
    """Return text for a cell of a table, without anything that Markdown would act on."""
    return re.sub(r"([\\|\[\]*_`])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _home(name: str) -> str:
    """Return the module that a public name comes from."""
    home: str = geoasanet._HOMES[name]
    return home


def _results(name: str) -> list[str]:
    """Return the classes, not public by themselves, that a public function returns."""
    module = ast.parse((ROOT / (_home(name).replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    places = {node.name: _home(name) for node in module.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            places |= {alias.asname or alias.name: node.module for alias in node.names}
    found = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name)
    if found.returns is None:
        return []
    names = [node.id for node in ast.walk(found.returns) if isinstance(node, ast.Name)]
    ours = [each for each in names if places.get(each, "").startswith("geoasanet")]
    return [f"{places[each]}.{each}" for each in ours if each not in geoasanet.__all__]


def _tables() -> list[Path]:
    return sorted(path for path in RESULTS.glob("*.md") if path.name != "README.md")


def _title(path: Path) -> str:
    """Return the title of a Markdown file without its code marks."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").replace("`", "")


def _checkpoint(path: Path) -> str:
    """Return a model card, its mention of a table made a link."""
    return path.read_text(encoding="utf-8").replace(
        "`scripts/results/los_angeles.md`", "[los_angeles](../results/los_angeles.md)"
    )


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
