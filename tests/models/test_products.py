"""Matrix products by NumPy, and what only they need."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController

from geoasanet import processor
from geoasanet.inference import lanes
from geoasanet.inference.lanes import LanePlan, Lanes
from geoasanet.models import products
from geoasanet.models.products import multiply_by_numpy, openblas_on_one_thread, product

sides = st.integers(0, 9)


@pytest.fixture
def by_numpy(monkeypatch):
    """Make this thread multiply by NumPy; count its products."""
    calls = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, out: calls.append(a.shape) or matmul(a, b, out=out))
    multiply_by_numpy(True)
    yield calls
    multiply_by_numpy(False)


@given(sides=st.tuples(sides, sides, sides), batch=st.integers(1, 3), which=st.sampled_from(["a", "b", "both", ""]))
@settings(deadline=None, max_examples=60)
def test_both_libraries_agree(sides, batch, which):
    torch.manual_seed(0)
    m, k, n = sides
    a = torch.randn(*([batch] if which in ("a", "both") else []), m, k)
    b = torch.randn(*([batch] if which in ("b", "both") else []), n, k).mT
    expected = product(a, b)
    multiply_by_numpy(True)
    try:
        found = product(a, b)
    finally:
        multiply_by_numpy(False)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


def test_numpy_multiplies_what_is_in_single_precision_only(by_numpy):
    a = torch.randn(3, 3)
    product(a, a)
    assert len(by_numpy) == 1
    product(a.double(), a.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(a, a).dtype == torch.bfloat16
    assert len(by_numpy) == 1


def test_a_compiler_sees_an_ordinary_product(by_numpy):
    a = torch.randn(3, 3)
    compiled = torch.compile(product, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(a, a), a @ a)
    assert not by_numpy


def test_openblas_gets_its_threads_back():
    found = ThreadpoolController().select(internal_api="openblas")
    before = [library["num_threads"] for library in found.info()]
    if not before:
        pytest.skip("NumPy's library is not OpenBLAS here")
    with openblas_on_one_thread():
        assert all(library["num_threads"] == 1 for library in found.info())
    assert [library["num_threads"] for library in found.info()] == before


@pytest.mark.parametrize(("threads", "faster", "expected"), [(1, True, True), (2, True, False), (1, False, False)])
def test_lanes_of_one_thread_multiply_by_numpy_where_that_is_faster(monkeypatch, threads, faster, expected):
    monkeypatch.setattr(lanes, "numpy_is_faster", lambda: faster)
    with Lanes(LanePlan(2, threads)) as running:
        assert running.submit(lambda: products._thread.by_numpy).result() is expected
    assert not products._thread.by_numpy


@pytest.mark.parametrize(
    ("vendor", "mkl", "expected"),
    [("AuthenticAMD", True, True), ("GenuineIntel", True, False), ("AuthenticAMD", False, False)],
)
def test_numpy_is_faster_on_one_makers_processors(monkeypatch, vendor, mkl, expected):
    if not ThreadpoolController().select(internal_api="openblas").info():
        pytest.skip("NumPy's library is not OpenBLAS here")
    monkeypatch.setattr(products, "system_fact", lambda path, key: vendor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    products.numpy_is_faster.cache_clear()
    try:
        assert products.numpy_is_faster() is expected
    finally:
        products.numpy_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("vendor", "family", "flags", "loaded", "chosen"),
    [
        ("AuthenticAMD", "25", "avx2 avx512f", False, "Haswell"),
        ("AuthenticAMD", "25", "avx2", False, None),
        ("AuthenticAMD", "26", "avx2 avx512f", False, None),
        ("GenuineIntel", "25", "avx2 avx512f", False, None),
        ("AuthenticAMD", "25", "avx2 avx512f", True, None),
    ],
)
def test_openblas_takes_shorter_vectors_on_zen_4(monkeypatch, vendor, family, flags, loaded, chosen):
    facts = {"vendor_id": vendor, "cpu family": family, "flags": flags}
    monkeypatch.setattr(processor, "system_fact", lambda path, key: facts[key])
    monkeypatch.setattr(processor.sys, "modules", {"numpy": np} if loaded else {})
    monkeypatch.setenv("OPENBLAS_CORETYPE", "")  # so that it is put back afterwards
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    processor.choose_openblas_kernels()
    assert processor.os.environ.get("OPENBLAS_CORETYPE") == chosen


def test_openblas_keeps_the_kernels_that_a_user_chose(monkeypatch):
    facts = {"vendor_id": "AuthenticAMD", "cpu family": "25", "flags": "avx512f"}
    monkeypatch.setattr(processor, "system_fact", lambda path, key: facts[key])
    monkeypatch.setattr(processor.sys, "modules", {})
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    processor.choose_openblas_kernels()
    assert processor.os.environ["OPENBLAS_CORETYPE"] == "Zen"


def test_the_command_chooses_before_it_loads_numpy():
    """Else it would choose nothing at all."""
    code = (
        "import sys; from geoasanet.cli import main as cli; "
        "cli.choose_openblas_kernels = lambda: print('numpy' in sys.modules); cli.main(['models', '--help'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[0] == "False"
