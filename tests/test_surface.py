"""What people see: names, help, start-up, exit codes, documents."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.cli.main import COMMANDS, main
from tests.conftest import ROOT

Files = Callable[..., tuple[Path, Path]]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "geoasanet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_every_public_name_can_be_imported() -> None:
    for name in ga.__all__:
        assert getattr(ga, name) is not None
    assert set(ga.__all__) <= set(dir(ga))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'predcit'"):
        ga.predcit  # noqa: B018


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_for_every_option(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"
    assert {"--debug", "--no-progress", "--quiet", "--verbose"} <= {o for p in command.params for o in p.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_shows_every_command(name: str) -> None:
    assert f"geoasanet {name}" in (ROOT / "README.md").read_text()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from geoasanet.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'rasterio', 'geopandas', 'numpy', 'numba', 'rich', 'shapely', 'pyogrio', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_version() -> None:
    assert run("--version").stdout.strip() == f"geoasanet, version {ga.__version__}"


class TestExitCodes:
    """0 done, 1 failed with one line, 2 wrong usage; a traceback only with --debug."""

    def test_a_failure_is_one_line(self, tmp_path: Path) -> None:
        done = run("predict", "none.tif", "none.tif", "-c", "demo", cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: RGB raster none.tif does not exist.")

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        done = run("vectorize", "none.tif", "--debug", cwd=tmp_path)
        assert done.returncode == 1 and "Traceback" in done.stderr

    @pytest.mark.parametrize(
        "arguments",
        [("predict",), ("predict", "a", "b", "--overlap", "x"), ("vectorise",), ("predict", "a", "b", "--nonsense")],
    )
    def test_wrong_usage(self, arguments: tuple[str, ...]) -> None:
        done = run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr

    def test_an_option_is_no_file_name(self, tmp_path: Path) -> None:
        done = run("predict", "a.tif", "b.tif", "--confidence", "--quicklook", cwd=tmp_path)
        assert done.returncode == 2 and not list(tmp_path.iterdir())
        assert "'--confidence': a name is needed, found '--quicklook'" in done.stderr

    def test_a_mistyped_command_is_answered_with_the_nearest(self) -> None:
        assert "vectorize" in run("vectorise").stderr

    def test_bugs_are_owned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from geoasanet.tools import info

        def broken(path: str) -> None:
            raise RuntimeError("the sky fell")

        monkeypatch.setattr(info, "info", broken)
        done = CliRunner().invoke(main, ["info", "x"])
        # CliRunner asks for no standalone mode of its own; call the boundary as the console script does.
        assert done.exit_code == 1 and "This is a bug in geoasanet" in done.stderr


def test_json_is_one_document_on_stdout(scene_files: Files, tmp_path: Path) -> None:
    rgb, _ = scene_files(40, 40)
    done = run("info", str(rgb), "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert document["kind"] == "raster" and document["fit"] and document["height"] == 40


def test_verbose_says_which_versions_run(scene_files: Files) -> None:
    rgb, _ = scene_files(40, 40)
    assert f"geoasanet {ga.__version__}, Python" in run("info", str(rgb), "-v").stderr


def test_info_names_what_is_wrong(tmp_path: Path, make_raster: Callable[..., Path]) -> None:
    path = make_raster("plain.tif", np.zeros((1, 9, 9), np.uint8), crs=None)
    done = run("info", str(path))
    assert done.returncode == 1
    assert "no coordinate reference system" in done.stdout and "Not fit for use." in done.stdout


def test_no_file_names_a_machine() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".sh"}:
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text and str(Path.home()) + "/" not in text, name
