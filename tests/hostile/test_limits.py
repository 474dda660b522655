"""What is refused before memory is taken, and what is read all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import geoasanet as ga
from geoasanet.bands import SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.cli.console import shortened
from geoasanet.errors import BandError, ClassSchemaError, ConfigError, ManifestError, SceneError, said_of
from geoasanet.files import read_limited
from geoasanet.printable import printable
from geoasanet.raster.bandcheck import MOST_BANDS
from geoasanet.raster.limits import LARGEST_SIDE, LARGEST_VALUE, check_openable, measured
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.source import RasterSource
from geoasanet.raster.tilefile import read_image
from geoasanet.raster.tileplan import SceneFiles
from geoasanet.tools.tileinputs import prefixes
from geoasanet.windows import Window
from geoasanet.yamltext import MOST_VALUES, YamlError, parse_yaml, read_yaml
from tests.conftest import UTM, PixelNet, write_raster
from tests.hostile.texts import LAUGHS, MERGES


class TestYaml:
    """YAML within limits."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (LAUGHS, "more than 100000 values"),
            (MERGES, "more than 100000 values"),
            ("[" * 5000, "nests more than 32 levels"),
            ("&a [*a]", "contains itself"),
            ("9" * 50, "a number of 50 characters"),
            ("0x" + "f" * 5000, "a number of 5002 characters"),
            ("2024-99-99", "not what its form promises"),
            ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
            ("a: [", "while parsing"),
            ("--- 1\n--- 2", "single document"),
        ],
    )
    def test_refused(self, text: str, message: str) -> None:
        with pytest.raises(YamlError, match=message):
            parse_yaml(text)

    @pytest.mark.parametrize(
        ("text", "value"),
        [("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}), ("", None), ("<<: {a: 1}\nb: 2", {"a": 1, "b": 2})],
    )
    def test_read(self, text: str, value: object) -> None:
        assert parse_yaml(text) == value

    def test_as_many_values_as_allowed(self) -> None:
        assert len(parse_yaml(f"[{'0,' * (MOST_VALUES - 1)}]")) == MOST_VALUES - 1
        with pytest.raises(YamlError, match="more than"):
            parse_yaml(f"[{'0,' * MOST_VALUES}]")

    def test_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_text("\ufeffa: 1")
        assert read_yaml(path) == {"a": 1}
        path.write_text("a" * (5 << 20))
        with pytest.raises(YamlError, match="larger than 4 MiB"):
            read_yaml(path)
        with pytest.raises(YamlError, match="no file"):
            read_yaml(tmp_path)
        with pytest.raises(YamlError, match="no file"):
            read_yaml(Path("/dev/zero"))


class TestRasters:
    """Sizes and values."""

    def _virtual(self, path: Path, width: int, height: int) -> Path:
        path.write_text(
            f"<VRTDataset rasterXSize='{width}' rasterYSize='{height}'><SRS>EPSG:32650</SRS><GeoTransform>5e5, 10, 0, "
            "3e6, 0, -10</GeoTransform><VRTRasterBand dataType='Byte' band='1'/></VRTDataset>"
        )
        return path

    def test_of_as_many_columns_as_allowed(self, tmp_path: Path) -> None:
        path = self._virtual(tmp_path / "a.vrt", LARGEST_SIDE, 5)
        with open_dataset(str(path), "RGB") as dataset:
            assert dataset.width == LARGEST_SIDE

    @pytest.mark.parametrize("shape", [(LARGEST_SIDE + 1, 5), (5, LARGEST_SIDE + 1), (2**22, 2**21)])
    def test_of_more_are_refused(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        path = self._virtual(tmp_path / "a.vrt", *shape)
        with pytest.raises(SceneError, match=rf"a\.vrt declares {shape[1]} x {shape[0]} pixels.*at most 16777216"):
            open_dataset(str(path), "RGB")

    def test_blocks_that_fill_the_memory_are_refused(self, tmp_path: Path) -> None:
        options = {"width": 65_520, "height": 65_520, "blockxsize": 65_520, "blockysize": 65_520, "SPARSE_OK": True}
        path = tmp_path / "a.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=1, dtype="uint8", crs="EPSG:32650", transform=UTM, tiled=True,
            compress="deflate", **options,
        ):  # fmt: skip
            pass
        with pytest.raises(SceneError, match=r"a\.tif is stored in blocks of 65520 x 65520 pixels, 4\.0 GiB each"):
            open_dataset(str(path), "SAR")

    def test_tiles_of_gigabytes_are_refused(self, tmp_path: Path) -> None:
        path = self._virtual(tmp_path / "a.vrt", 100_000, 100_000)
        with pytest.raises(ManifestError, match=r"a\.vrt declares 100000 x 100000 pixels"):
            read_image(path)

    def test_values_that_are_no_measurement(self, make_raster: Callable[..., Path]) -> None:
        values = np.ones((1, 2, 4), np.float64)
        values[0, 0] = [np.nan, np.inf, -3.4e38, 1e300]
        values[0, 1] = [LARGEST_VALUE, -LARGEST_VALUE, 2 * LARGEST_VALUE, 0]
        source = RasterSource(make_raster("a.tif", values), [1], "SAR")
        pixels, valid = source.read(Window(0, 0, 2, 4))
        source.close()
        assert valid.tolist() == [[False] * 4, [True, True, False, True]]
        assert not pixels[0, ~valid].any()
        values[0, 0, 3] = np.inf
        assert measured(values.astype(np.float32)).tolist() == valid.tolist()
        assert measured(np.full((2, 1, 1), 2**62)).all()

    @pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
    def test_devices_are_no_rasters(self, name: str) -> None:
        with pytest.raises(SceneError, match=f"{name} is a pipe or device"):
            check_openable(name, "RGB")


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "zstd"},
        {"compress": "lerc"},
        {"compress": "lzma", "interleave": "band"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG"},
        {"dtype": "uint16"},
        {"dtype": "int32"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_the_same_pixels_give_the_same_map(tmp_path: Path, options: dict[str, object]) -> None:
    """However a raster is stored."""
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (3, 70, 50), dtype=np.uint8)
    sar = write_raster(tmp_path / "sar.tif", rng.gamma(4, 0.05, (1, 70, 50)).astype(np.float32))
    dtype = np.dtype(str(options.pop("dtype", "uint8")))
    plain = write_raster(tmp_path / "plain.tif", rgb)
    other = write_raster(tmp_path / "other.tif", rgb.astype(dtype), **options)
    maps = []
    for path in (plain, other):
        out = tmp_path / f"{path.stem}_map.tif"
        ga.predict(path, sar, model=PixelNet(3), classes=["a", "b", "c"], out=out, window=32)
        with rasterio.open(out) as dataset:
            maps.append(dataset.read())
    np.testing.assert_array_equal(*maps)


def test_errors_name_the_file_once() -> None:
    with (
        pytest.raises(ConfigError, match=r"^Configuration a\.yaml: lr is wrong\. Mend it\.$"),
        said_of("Configuration a.yaml", ConfigError),
    ):
        raise ConfigError("lr is wrong.", "Mend it.")
    with pytest.raises(ConfigError, match=r"^Configuration a\.yaml: x$"), said_of("Configuration a.yaml", ConfigError):
        raise ConfigError("Configuration a.yaml: x")
    with pytest.raises(ManifestError, match=r"^x$"), said_of("Configuration a.yaml", ConfigError):
        raise ManifestError("x")


def test_nothing_acts_on_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\u202ec\udce9") == "a?[31mb??c?"
    assert printable("снимок 影像 Zürich é\n\t – … ×") == "снимок 影像 Zürich é\n\t – … ×"
    assert len(shortened("x" * 9999)) < 1300 and shortened("short") == "short"


@pytest.mark.parametrize(
    "data",
    [
        {"classes": ["a"], "ignore_index": "x"},
        {"classes": ["a"], "ignore_index": float("inf")},
        {"classes": [None]},
        {"classes": [True]},
        {"classes": [["a"]]},
        {"classes": [{"id": [0], "name": "a"}]},
        {"classes": [{"id": float("nan"), "name": "a"}]},
        {"classes": range(10**9)},
    ],
)
def test_schemas_of_other_things_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ClassSchemaError):
        ClassSchema.from_dict(data)


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    assert read_limited(path, 1 << 20) == bytes(1 << 20)
    with pytest.raises(OSError, match="larger than 0 MiB"):
        read_limited(path, (1 << 20) - 1)
    for other, reason in ((tmp_path, "a folder"), (Path("/dev/zero"), "a pipe or device")):
        with pytest.raises(OSError, match=reason):
            read_limited(other, 9)


@pytest.mark.parametrize(("mean", "std"), [(1e13, 1.0), (0.0, 1e-13), (0.0, 1e13)])
def test_statistics_are_those_of_pixels(mean: float, std: float) -> None:
    with pytest.raises(ConfigError, match="none of pixels"):
        SensorBands((mean,), (std,))


def test_so_many_bands_are_not_read_unasked(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "many.tif", np.ones((MOST_BANDS + 1, 2, 2), np.uint8))
    with pytest.raises(BandError, match=rf"{MOST_BANDS + 1} bands of SAR raster .*Choose some with --sar-bands"):
        RasterSource(str(path), tuple(range(1, MOST_BANDS + 2)), "SAR")


def test_names_of_tiles_stay_within_what_datasets_hold(tmp_path: Path) -> None:
    names = [f"{'ü' * 120}{i}.tif" for i in range(2)]
    first, second = prefixes([SceneFiles(name, "s.tif", None, None, "") for name in names])
    assert first != second and max(len(first.encode()), len(second.encode())) < 170


def test_libraries_are_quiet_about_damaged_hdf5(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.tif"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(2000))
    with pytest.raises(SceneError, match="cannot be opened"):
        open_dataset(str(path), "SAR")
    assert capfd.readouterr().err == ""
