"""Facts about the networks that their code cannot tell: papers, licences, published figures, variants."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoasanet.models.flops import SIZE, Cost, cost_of
from geoasanet.models.registry import find_network

SOURCE = "ASANet paper (arXiv 2412.02044)"
"""Where all published figures come from."""


@dataclass(frozen=True, slots=True)
class Published:
    """A network's row in the comparison of the ASANet paper, arXiv 2412.02044: 256×256 px, 6 classes."""

    parameters_m: float
    """Parameters without auxiliary head, millions."""
    gmacs: float
    """Multiply-accumulates of one image, billions; the paper calls them FLOPs."""
    fps: float
    """Images a second, on hardware that the paper's repository does not name."""
    miou_pie: float
    """mIoU on PIE-RGB-SAR, percent."""
    miou_ddhr: float
    """mIoU on DDHR-SK, percent."""
    miou_whu: float
    """mIoU on WHU-OPT-SAR, percent."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Arguments under which a network is another published one."""

    arguments: dict[str, Any]
    """Arguments of :func:`geoasanet.models.registry.create_model`."""
    text: str
    """What it is."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a network."""

    title: str
    """Its usual spelling."""
    year: int
    """Year of the paper."""
    paper: str
    """First author and venue."""
    cost: Cost
    """Size of the network with all defaults, as :func:`geoasanet.models.flops.cost_of` counts it in some seconds."""
    weights_licence: str
    """Licence of the ImageNet weights of its encoders, short."""
    weights: str
    """Whose they are."""
    encoder: str = ""
    """Its encoders where it takes no argument for them."""
    doi: str = ""
    arxiv: str = ""
    """Number of the preprint."""
    published: Published | None = None
    """The paper's figures; ``None`` where it has none."""
    variants: tuple[Variant, ...] = ()


_NON_COMMERCIAL = "CC BY-NC 4.0"
_CONVNEXT = "ConvNeXt V2, Meta; no commercial use"
_VGG = "VGG, torchvision"

CARDS: dict[str, Card] = {
    "afnet": Card(
        title="AFNet",
        year=2021,
        paper="Yang et al., ISPRS J.",
        arxiv="2105.04132",
        cost=Cost(355_713_990, 0, 66_191_867_904),
        weights_licence="Apache-2.0",
        weights="ResNet, timm",
        published=Published(356, 65, 35.9, 76.27, 91.11, 53.57),
    ),
    "asanet": Card(
        title="ASANet",
        year=2024,
        paper="Zhang et al., ISPRS J.",
        doi="10.1016/j.isprsjprs.2024.09.025",
        arxiv="2412.02044",
        cost=Cost(82_458_294, 443_398, 25_834_284_288),
        weights_licence=_NON_COMMERCIAL,
        weights=_CONVNEXT,
        published=Published(82, 25, 48.7, 78.31, 94.48, 56.11),
        variants=(
            Variant({"fusion": "sum"}, "the paper's ablation: Semantic Focusing, then the plain sum"),
            Variant({"sfm": False}, "the paper's ablation: no Semantic Focusing"),
        ),
    ),
    "cmfnet": Card(
        title="CMFNet",
        year=2022,
        paper="Ma et al., IEEE JSTARS",
        doi="10.1109/JSTARS.2022.3165005",
        cost=Cost(104_074_118, 0, 79_338_930_176),
        weights_licence="BSD-3-Clause",
        weights=_VGG,
        published=Published(104, 77, 21.6, 76.31, 89.79, 53.72),
    ),
    "cmx": Card(
        title="CMX",
        year=2023,
        paper="Zhang et al., IEEE T-ITS",
        doi="10.1109/TITS.2023.3300537",
        arxiv="2203.04838",
        cost=Cost(66_557_710, 0, 14_799_224_832),
        weights_licence="NVIDIA SCL",
        weights="Mix Transformer, NVIDIA Source Code License; no commercial use",
        published=Published(67, 15, 33.5, 77.10, 94.32, 55.68),
    ),
    "ftransunet": Card(
        title="FTransUNet",
        year=2024,
        paper="Ma et al., IEEE TGRS",
        doi="10.1109/TGRS.2024.3373033",
        encoder="R50 + ViT-B/16",
        cost=Cost(203_403_558, 0, 69_607_408_640),
        weights_licence="Apache-2.0",
        weights="R50 + ViT-B/16, Google",
        published=Published(203, 70, 20.7, 75.72, 87.64, 54.47),
    ),
    "fusenet": Card(
        title="FuseNet",
        year=2016,
        paper="Hazirbas et al., ACCV",
        doi="10.1007/978-3-319-54181-5_14",
        cost=Cost(55_159_046, 9_350, 65_689_092_096),
        weights_licence="BSD-3-Clause",
        weights=_VGG,
        published=Published(55, 66, 88.8, 60.62, 48.87, 38.01),
        variants=(
            Variant({"decoder": "unchained"}, "the decoder released with the ASANet paper, which its row measures"),
            Variant({"variant": "sf5"}, "the network of Hazirbas et al."),
        ),
    ),
    "sagate": Card(
        title="SA-Gate",
        year=2020,
        paper="Chen et al., ECCV",
        arxiv="2007.09183",
        cost=Cost(121_249_102, 9_441_286, 46_148_608_000),
        weights_licence="Apache-2.0",
        weights="ResNet with deep stem, Gluon",
        published=Published(121, 46, 34.9, 73.84, 90.89, 53.17),
        variants=(Variant({"variant": "official"}, "its authors' own: dilated at stride 16, a head half as wide"),),
    ),
    "upernet": Card(
        title="UPerNet",
        year=2018,
        paper="Xiao et al., ECCV",
        arxiv="1807.10221",
        cost=Cost(37_093_062, 443_398, 19_115_851_776),
        weights_licence=_NON_COMMERCIAL,
        weights=_CONVNEXT,
        variants=(
            Variant({"inputs": "rgb"}, "optical image only"),
            Variant({"inputs": "sar"}, "SAR image only"),
        ),
    ),
}
"""Card of every network in the registry."""


def known_cost(name: str, arguments: Mapping[str, Any], size: int = SIZE) -> Cost:
    """Return what a network costs: from its card where that has it, else counted.

    Args:
        name: Registry name.
        arguments: Arguments that differ from the defaults.
        size: Height and width of the image, pixels.

    Raises:
        ModelError: If the name or an argument is unknown or impossible, or the network does not take this size.
    """
    return CARDS[name].cost if not arguments and size == SIZE else cost_of(name, arguments, size)


def about(name: str) -> tuple[str, ...]:
    """Return what the network's module says of it, plain paragraphs: what it is, sources, how it differs from them.

    Raises:
        ModelError: If the name is unknown.
    """
    text = inspect.getdoc(sys.modules[find_network(name).__module__]) or ""
    paragraphs = [plain(paragraph) for paragraph in text.split("\n\n")]
    return tuple(p for p in paragraphs if not p.startswith("Letters in names"))


def argument_texts(name: str) -> dict[str, str]:
    """Return what each argument of the network's class means, by name, in the order of its docstring.

    Raises:
        ModelError: If the name is unknown.
    """
    text = inspect.getdoc(find_network(name)) or ""
    _, _, section = text.partition("\nArgs:\n")
    section = section.partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {argument: plain(meaning) for argument, meaning in found}


def plain(text: str) -> str:
    """Return a docstring's text on one line, without markup."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "").replace("**", "")
    return " ".join(text.split())
