"""The documentation site: it builds without a warning, and what it says of the program is so."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import geoasanet as ga
from geoasanet.cli.main import COMMANDS
from geoasanet.yamltext import read_yaml
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error."""
    if find_spec("mkdocs") is None or find_spec("material") is None or find_spec("mkdocstrings") is None:
        pytest.skip("MkDocs is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class TestSite:
    """What the build adds to the written pages."""

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_a_page_with_every_option(self, site: Path, name: str) -> None:
        page = (site / f"commands/{name}/index.html").read_text(encoding="utf-8")
        for option in options_of(name):
            assert option in page, f"{name} {option}"

    def test_every_public_name_is_explained(self, site: Path) -> None:
        page = (site / "python/index.html").read_text(encoding="utf-8")
        for name in set(ga.__all__) - {"__version__"}:
            assert f'id="{ga._HOMES[name]}.{name}"' in page, name
        assert 'id="geoasanet.tools.predict.PredictResult"' in page
        assert ":func:" not in page and ":class:" not in page

    def test_every_measurement_is_there(self, site: Path) -> None:
        for path in (ROOT / "scripts/results").glob("*.md"):
            name = "" if path.name == "README.md" else path.stem
            assert (site / "results" / name / "index.html").is_file(), path.name

    def test_nothing_is_fetched_from_elsewhere(self, site: Path) -> None:
        page = (site / "index.html").read_text(encoding="utf-8")
        assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)', page)


def options_of(name: str) -> set[str]:
    """Return all spellings of a command's options."""
    command: click.Command = import_module(f"geoasanet.cli.{name}").command
    return {word for p in command.params for word in (*p.opts, *p.secondary_opts) if word.startswith("-")} | {"--help"}


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each geoasanet command in a page's blocks of shell code."""
    for block in re.findall(r"^ *```bash\n(.*?)```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|/|-m )geoasanet ([a-z]+)(\s.*|$)", re.sub(r"(^| )#.*", "", line.strip()))
            if found:
                yield [found[1], *shlex.split(found[2])]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_shown_exist_with_their_options(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commands = list(shown_commands(text))
    if path.name in {"index.md", "quickstart.md", "tutorial.md", "README.md"}:
        assert len(commands) >= 4
    for name, *words in commands:
        assert find_spec(f"geoasanet.cli.{name}"), f"{path.name}: geoasanet {name}"
        for word in words:
            option = word.split("=")[0]
            if option.startswith("-") and not re.fullmatch(r"-[\d.]+", option):
                assert option in options_of(name), f"{path.name}: geoasanet {name} {option}"


def test_options_named_in_running_text_exist() -> None:
    known = {option for name in (*COMMANDS, "view") for option in options_of(name)} | {"--version"}
    others = {"--resources", "--scheduler-file", "--strict", "--shm-size", "--gres"}  # of other programs
    for path in TEXTS:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for option in re.findall(r"`(?:geoasanet \w+ )?(--[a-z][a-z-]+)", text):
            assert option in known | others, f"{path.name}: {option}"


def test_messages_explained_are_those_of_the_program() -> None:
    said = []
    for path in (ROOT / "geoasanet").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said += [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    explained = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(explained) > 20
    for message in explained:
        assert any(message in text for text in said), message


def test_published_figures_are_those_of_the_cards() -> None:
    from geoasanet.models.cards import CARDS

    text = (DOCS / "method.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells for line in text.splitlines() if len(cells := line.split("|")) == 10}
    for card in CARDS.values():
        if card.published is None:
            continue
        year, _, parameters, gmacs, *scores = (cell.strip() for cell in rows[card.title][2:9])
        figures = card.published
        assert int(year) == card.year
        assert (float(parameters), float(gmacs)) == (figures.parameters_m, figures.gmacs)
        assert [float(v) for v in scores] == [figures.miou_pie, figures.miou_ddhr, figures.miou_whu]
        assert card.doi in text and card.arxiv in text


def test_the_citation_names_this_version() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["title"] == "geoasanet"
    assert str(citation["version"]) == ga.__version__
    assert citation["references"][0]["doi"] in (DOCS / "cite.md").read_text(encoding="utf-8")


class TestCompletion:
    """``_GEOASANET_COMPLETE``, as the page on installing tells it."""

    @pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")])
    def test_a_script_for_each_shell_without_heavy_imports(self, shell: str, mark: str) -> None:
        assert f"_GEOASANET_COMPLETE={shell}_source geoasanet" in (DOCS / "install.md").read_text(encoding="utf-8")
        if shell == "bash" and not modern_bash():
            pytest.skip("no bash of version 4.4 or newer")
        script, loaded = complete({"_GEOASANET_COMPLETE": f"{shell}_source"})
        assert mark in script and "geoasanet" in script
        assert not loaded

    def test_options_of_a_command(self) -> None:
        words = {"COMP_WORDS": "geoasanet predict --sar", "COMP_CWORD": "2", "_GEOASANET_COMPLETE": "bash_complete"}
        answer, loaded = complete(words)
        assert {"plain,--sar-bands", "plain,--sar-scale"} <= set(answer.splitlines())
        assert not loaded


def modern_bash() -> bool:
    command = ["bash", "-c", "echo ${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]}"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return tuple(int(v) for v in out.split()) >= (4, 4)


def complete(environment: dict[str, str]) -> tuple[str, set[str]]:
    """Return what the program prints for a shell, and which heavy modules it loads for that; at most 1 s of CPU."""
    code = (
        "import sys, resource\n"
        "from geoasanet.cli.main import main\n"
        "try:\n    main(prog_name='geoasanet')\n"
        "except SystemExit:\n    pass\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert used.ru_utime + used.ru_stime < 1\n"
        "heavy = {'torch', 'rasterio', 'geopandas', 'numpy', 'numba', 'shapely', 'pyogrio'}\n"
        "print(*(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout, set(done.stderr.split())
