"""Facts about the networks: cards, texts from docstrings, and costs against the measured table of the references."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.cli.main import main
from geoasanet.errors import ModelError
from geoasanet.models.cards import CARDS, about, argument_texts
from geoasanet.models.flops import build_on_meta, cost_of
from geoasanet.models.registry import NETWORKS, create_model
from geoasanet.tools.models import REQUIRED

TINY_ASANET = {
    "encoder": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]},
    "decoder_channels": 8,
    "auxiliary_channels": 4,
}


@pytest.fixture(scope="module")
def models():
    return {model.name: model for model in ga.list_models()}


@pytest.fixture(scope="module")
def measured(shared):
    """The table of section 0 of the references: name to published and measured GMACs and millions of parameters."""
    titles = {card.title: name for name, card in CARDS.items()}
    rows = {}
    for line in (shared / "MODELS.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = titles.get(cells[0].split(" (")[0])
        if len(cells) < 5 or name is None or name in rows or not re.match(r"\d", cells[1]):
            continue
        numbers = [float(number) for number in re.findall(r"\d+\.?\d*", re.sub(r"\([^)]*\)", "", cells[2]))]
        rows[name] = ([float(number) for number in cells[1].split(" / ")], numbers[:2])
    return rows


def test_every_network_has_a_card():
    assert CARDS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", CARDS)
def test_the_card_says_what_is_counted(name):
    assert cost_of(name, {}) == CARDS[name].cost


@pytest.mark.parametrize("name", CARDS)
def test_costs_are_those_measured_on_the_originals(name, measured):
    if name not in measured:
        pytest.skip(f"{name} has no row of its own in the references")
    _, (gmacs, millions) = measured[name]
    assert CARDS[name].cost.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert CARDS[name].cost.parameters / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_references_know_all_seven(measured):
    assert measured.keys() == CARDS.keys() - {"upernet"}


@pytest.mark.parametrize("name", CARDS)
def test_published_figures_are_those_of_the_references(name, measured, shared):
    row = CARDS[name].published
    if row is None:
        pytest.skip(f"{name} is not in the paper's table")
    text = (shared / "MODELS.md").read_text(encoding="utf-8")
    assert [row.gmacs, row.parameters_m] == measured[name][0]
    assert f"{CARDS[name].title} {row.miou_pie:.2f}/{row.miou_ddhr:.2f}/{row.miou_whu:.2f}" in text
    rates = re.search(r"FPS column of the table[^:]*: ([\d., ]+\d)", text)
    order = ["fusenet", "sagate", "afnet", "cmfnet", "cmx", "ftransunet", "asanet"]
    assert float(rates[1].split(", ")[order.index(name)]) == row.fps


@pytest.mark.parametrize("name", CARDS)
def test_every_argument_is_explained(name):
    texts = argument_texts(name)
    assert list(texts) and set(texts) == set(inspect.signature(NETWORKS[name]).parameters)
    assert all(len(text) > 10 and "``" not in text and text.endswith(".") for text in texts.values())


@pytest.mark.parametrize("name", CARDS)
def test_the_text_about_a_network_names_its_sources(name):
    text = " ".join(about(name))
    assert "arXiv" in text or "doi" in text or "IEEE" in text
    assert CARDS[name].arxiv in text and CARDS[name].weights_licence.split(" SCL")[0].split("-Clause")[0] in text
    assert "Letters in names" not in text and "``" not in text


@pytest.mark.parametrize("name", CARDS)
def test_variants_can_be_built(name):
    for variant in CARDS[name].variants:
        assert build_on_meta(name, **variant.arguments).architecture.arguments.items() >= variant.arguments.items()


def test_costs_are_counted_without_the_auxiliary_head():
    model = create_model("asanet", 6, **TINY_ASANET)
    head = sum(p.numel() for p in model.auxiliary.parameters())
    cost = cost_of("asanet", TINY_ASANET, 64)
    assert cost.auxiliary_parameters == head > 0
    assert cost.parameters + head == sum(p.numel() for p in model.parameters())


def test_convolutions_cost_four_times_as_much_at_twice_the_side():
    small, large = (cost_of("asanet", TINY_ASANET, side).macs for side in (128, 256))
    assert large / small == pytest.approx(4, rel=0.02)


def test_the_table_is_one_json_document_without_nan(models):
    done = CliRunner().invoke(main, ["models", "--json"])
    assert done.exit_code == 0
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert {model["name"]: model["macs"] for model in document["models"]} == {n: m.macs for n, m in models.items()}
    assert document["size"] == 256 and document["num_classes"] == 6


def test_the_table_fits_into_80_columns(models):
    lines = CliRunner().invoke(main, ["models"]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(sum(line.split()[:1] == [name] for line in lines) == 2 for name in models)


@pytest.mark.parametrize("name", ["fusenet", "cmfnet"])
def test_one_network_in_detail(name):
    done = CliRunner().invoke(main, ["models", name])
    assert done.exit_code == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert f"https://doi.org/{CARDS[name].doi}" in done.stdout and "Differs from the release" in done.stdout
    described = ga.describe_model(name)
    assert described.arguments[0].default == REQUIRED and "num_classes" in done.stdout
    assert described.size_multiple == {"fusenet": 1, "cmfnet": 32}[name]
    assert described.auxiliary_weight == {"fusenet": 0.4, "cmfnet": None}[name]
    assert [variant.label for variant in described.variants] == {
        "fusenet": ["fusenet:decoder=unchained", "fusenet:variant=sf5"],
        "cmfnet": [],
    }[name]
    assert json.loads(CliRunner().invoke(main, ["models", name, "--json"]).stdout)["name"] == name


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(ModelError, match="Did you mean fusenet"):
        ga.describe_model("fuse-net")
