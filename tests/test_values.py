"""Classes, bands, scales, files, threads: the small parts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema, default_colors
from geoasanet.errors import BandError, ClassSchemaError, ConfigError, GeoASANetError, OutputError, OutputExistsError
from geoasanet.files import atomic_output, check_output
from geoasanet.inference.mapping import runs
from geoasanet.inference.threads import Background, prefetch
from geoasanet.inference.workers import share_rows
from geoasanet.raster.scaling import Scaling, choose_scaling, detect_scale
from geoasanet.tools.journal import open_journal


class TestClassSchema:
    """Names and colours that cannot be wrong."""

    @given(
        st.lists(
            st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip),
            min_size=1,
            max_size=20,
            unique=True,
        )
    )
    def test_it_survives_a_round_trip(self, names: list[str]) -> None:
        schema = ClassSchema.from_names(names)
        assert ClassSchema.from_dict(schema.to_dict()) == schema

    def test_ids_may_come_in_any_order(self) -> None:
        found = ClassSchema.from_dict({"classes": [{"id": 1, "name": "b"}, {"id": 0, "name": "a", "color": "#0a0b0c"}]})
        assert found.names == ("a", "b") and found.colors[0] == (10, 11, 12)

    @pytest.mark.parametrize(
        ("classes", "message"),
        [
            ([], "found 0"),
            (["a", "a"], "appears twice"),
            ([" "], "non-empty"),
            (["a\x00"], "control characters"),
            (["a\nb"], "control characters"),
            (["\ud800"], "control characters"),
            ([{"id": 0, "name": "a"}, {"id": 2, "name": "b"}], "without gaps"),
            ([{"name": "a", "color": [1, 2]}], "three values"),
            ([{"name": "a", "color": [1, 2, 300]}], "0..255"),
            ([{"name": "a", "color": "red"}], "#rrggbb"),
            ("abc", "needs a list"),
        ],
    )
    def test_what_is_refused(self, classes: object, message: str) -> None:
        with pytest.raises(ClassSchemaError, match=message):
            ClassSchema.from_dict({"classes": classes})

    def test_default_colours_differ(self) -> None:
        assert len(set(default_colors(20))) == 20


class TestBands:
    """Statistics of the inputs."""

    def test_it_survives_a_round_trip(self) -> None:
        bands = InputBands(SensorBands((1, 2, 3), (4, 5, 6)), SensorBands((-10,), (3,), "db", ("VV",)))
        assert InputBands.from_dict(bands.to_dict()) == bands

    @pytest.mark.parametrize(
        ("mean", "std", "scale"),
        [
            ((), (), "uint8"),
            ((1,), (1, 2), "db"),
            ((1,), (0,), "db"),
            ((float("nan"),), (1,), "db"),
            ((1,), (1,), "dB"),
        ],
    )
    def test_what_is_refused(self, mean: tuple[float, ...], std: tuple[float, ...], scale: str) -> None:
        with pytest.raises(ConfigError):
            SensorBands(mean, std, scale)  # type: ignore[arg-type]


class TestScaling:
    """SAR values between 8 bit, power and decibel."""

    @given(st.floats(1e-6, 1e3))
    def test_power_and_decibel_are_inverse(self, power: float) -> None:
        values, valid = np.full((1, 1, 1), power, np.float32), np.ones((1, 1), bool)
        decibel, _ = Scaling("linear", "db").apply(values, valid)
        assert decibel[0, 0, 0] == pytest.approx(10 * np.log10(power), abs=1e-3)
        back, _ = Scaling("db", "linear").apply(decibel, valid)
        assert back[0, 0, 0] == pytest.approx(power, rel=1e-4)

    def test_power_that_is_not_positive_has_no_decibels(self) -> None:
        values = np.array([[[0.1, 0.0, -1.0]]], np.float32)
        found, valid = Scaling("linear", "db").apply(values, np.ones((1, 3), bool))
        assert valid.tolist() == [[True, False, False]] and found[0, 0, 1:].tolist() == [0, 0]

    @pytest.mark.parametrize(
        ("values", "dtype", "expected"),
        [
            ([0, 255], "uint8", "uint8"),
            ([-20.0, 3.0], "float32", "db"),
            ([0.01, 3.0], "float32", "linear"),
            ([3, 60000], "uint16", "linear"),
            ([3, 200], "uint16", "uint8"),
            ([-2500, 100], "int16", "db"),
        ],
    )
    def test_scales_are_told_from_values(self, values: list[float], dtype: str, expected: str) -> None:
        assert detect_scale(np.dtype(dtype), np.array([values], dtype)) == expected

    def test_calibrated_values_are_stretched_for_an_8_bit_checkpoint(self) -> None:
        decibel = np.linspace(-30, 0, 1001, dtype=np.float32)[None]
        scaling, notes = choose_scaling("auto", SensorBands((80,), (50,)), decibel.dtype, decibel, "sar.tif")
        found, _ = scaling.apply(decibel[:, :, None], np.ones((1001, 1), bool))
        assert found.min() == 0 and found.max() == 255 and "-29.7 to -0.3 dB" in notes[0]

    def test_grey_values_cannot_become_decibels(self) -> None:
        grey = np.arange(256, dtype=np.uint8)[None]
        with pytest.raises(BandError, match=r"8-bit grey values.*decibels"):
            choose_scaling("auto", SensorBands((-8,), (3,), "db"), grey.dtype, grey, "sar.tif")
        assert choose_scaling("none", SensorBands((-8,), (3,), "db"), grey.dtype, grey, "sar.tif")[0].identity


class TestFiles:
    """Outputs are whole or absent."""

    def test_a_failure_leaves_what_was_there(self, tmp_path: Path) -> None:
        target = tmp_path / "out.txt"
        target.write_text("old")
        with pytest.raises(RuntimeError), atomic_output(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]

    def test_sidecars_come_along(self, tmp_path: Path) -> None:
        with atomic_output(tmp_path / "a.tif") as temporary:
            temporary.write_text("map")
            temporary.with_name("a.tif.aux.xml").write_text("names")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml"]

    def test_outputs_have_the_permissions_of_any_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "usual").touch()
        with atomic_output(tmp_path / "out") as temporary:
            temporary.touch(mode=0o600)
        assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_what_cannot_be_written_is_said_before_the_work(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_text("")
        with pytest.raises(OutputExistsError):
            check_output(tmp_path / "there")
        with pytest.raises(OutputError, match="does not exist"):
            check_output(tmp_path / "no" / "file")
        with pytest.raises(OutputError, match="is a folder"):
            check_output(tmp_path)


class TestThreads:
    """Reading ahead and writing behind."""

    @given(st.lists(st.integers(), max_size=30), st.integers(1, 4))
    def test_order_is_kept(self, items: list[int], depth: int) -> None:
        assert list(prefetch(items, depth)) == items
        written: list[int] = []
        with Background(written.append, depth) as writer:
            for item in items:
                writer.put(item)
        assert written == items

    def test_an_error_in_the_reader_reaches_the_consumer(self) -> None:
        def items():  # type: ignore[no-untyped-def]
            yield 1
            raise GeoASANetError("broken block")

        stream = prefetch(items())
        assert next(stream) == 1
        with pytest.raises(GeoASANetError, match="broken block"):
            next(stream)

    def test_an_error_in_the_writer_reaches_the_producer(self) -> None:
        def sink(item: int) -> None:
            raise OutputError("disk full")

        with pytest.raises(OutputError, match="disk full"), Background(sink, depth=1) as writer:
            for item in range(100):
                writer.put(item)
                time.sleep(0.001)

    def test_leaving_early_stops_the_reader(self) -> None:
        made = []

        def items():  # type: ignore[no-untyped-def]
            for i in range(1000):
                made.append(i)
                yield i

        stream = prefetch(items(), depth=2)
        next(stream)
        stream.close()
        assert len(made) < 10

    @pytest.mark.parametrize("depth", [1, 3])
    def test_no_more_is_made_than_asked_for(self, depth: int) -> None:
        made = []
        stream = prefetch((made.append(i) or i for i in range(100)), depth)  # type: ignore[func-returns-value]
        for taken in range(1, 6):
            assert next(stream) == taken - 1
            deadline = time.monotonic() + 10
            while len(made) < taken + depth and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)  # in which one more would be made
            assert len(made) == taken + depth
        stream.close()
        assert len(made) == 5 + depth


@given(st.lists(st.integers(0, 60), unique=True), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_rows_are_shared_among_workers_once_each(numbers: list[int], workers: int, lead: int, lent: bool) -> None:
    pending = runs(sorted(numbers))
    shares = share_rows(pending, workers, lead, lent=lent)
    assert [i for share in shares for run in share for i in run] == sorted(numbers)
    assert len(shares) == min(workers, len(numbers)) and all(shares)
    if len(numbers) >= workers * (lead + 1):
        sizes = [sum(map(len, share)) + (0 if share[0][0] == 0 else lead) for share in shares]
        if lent:
            sizes = [size - lead for size in sizes[:-1]] + sizes[-1:]
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_the_rows_that_lead_to_a_share_count_as_work() -> None:
    assert share_rows([range(43)], 2, lead=1) == [(range(22),), (range(22, 43),)]
    assert share_rows([range(5, 48)], 2, lead=1, top=5) == [(range(5, 27),), (range(27, 48),)]
    assert share_rows([range(1, 43)], 2, lead=1) == [(range(1, 22),), (range(22, 43),)]
    assert share_rows([range(64)], 2, lead=1, lent=True) == [(range(33),), (range(33, 64),)]


class TestJournal:
    """Work is taken up by the same command only."""

    def test_the_same_description_goes_on(self, tmp_path: Path) -> None:
        folder = tmp_path / ".map.partial"
        assert not open_journal(folder, {"a": 1}, resume=True)
        (folder / "work").write_text("done")
        assert open_journal(folder, {"a": 1}, resume=True) and (folder / "work").exists()

    def test_another_one_is_refused_by_name(self, tmp_path: Path) -> None:
        folder = tmp_path / ".map.partial"
        open_journal(folder, {"window": 256, "b": 2}, resume=True)
        with pytest.raises(ConfigError, match="differs in window"):
            open_journal(folder, {"window": 512, "b": 2}, resume=True)
        assert not open_journal(folder, {"window": 512, "b": 2}, resume=False)

    def test_a_folder_without_a_journal_is_made_anew(self, tmp_path: Path) -> None:
        folder = tmp_path / ".map.partial"
        folder.mkdir()
        (folder / "stray").write_text("")
        assert not open_journal(folder, {"a": 1}, resume=True) and not (folder / "stray").exists()
