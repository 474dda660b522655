"""Mix Transformer encoders and the perceptron head of SegFormer.

Both follow "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers" (Xie et al. 2021, arXiv
2105.15203). The encoder's layers are those of segmentation-models-pytorch, which NVIDIA wrote and put under its Source
Code License: non-commercial use only. The ImageNet weights are NVIDIA's as well; the published card names no other
licence, so treat networks trained from them as non-commercial.

Letters in names: B batch, C channels, K classes, H and W height and width, h and w at a map's own stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.blocks import resize
from geoasanet.models.encoders import STAGES, Encoder, EncoderSpec, Weights
from geoasanet.models.heads import Classifier
from geoasanet.models.renaming import rename

MIT_RULES = tuple(
    (rf"(^|_encoder\.){theirs}{i + 1}\.", rf"\1{ours}.{i}.")
    for theirs, ours in (("patch_embed", "embeds"), ("block", "blocks"), ("norm", "norms"))
    for i in range(STAGES)
)
"""NVIDIA's names, which count stages from one, to those here."""


class MixTransformerEncoder(Encoder):
    """Four stages of overlapping patches and efficient self-attention, each followed by a norm.

    The caller runs the stages one by one, because fusion happens in between.

    Args:
        name: ``"mit_b0"`` to ``"mit_b5"``.
        in_channels: Number of input bands.
        drop_path: Stochastic depth of the last block; grows linearly from 0 at the first.

    Raises:
        ModelError: If the name is unknown.
    """

    first_conv = "embeds.0.proj.weight"
    tags = ("imagenet",)

    def __init__(self, name: str, in_channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        from segmentation_models_pytorch.encoders.mix_transformer import mix_transformer_encoders as known

        if name not in known:
            raise ModelError(f"Encoder {name!r} is unknown.", f"Known are {', '.join(known)}.")
        sizes = {**known[name]["params"], "in_chans": in_channels, "drop_path_rate": drop_path}
        device = torch.get_default_device()
        # It reads its drop path rates back from a tensor, which the meta device cannot.
        with torch.device("cpu"):
            trunk = known[name]["encoder"](**sizes).to(device)
        self.dims: list[int] = list(sizes["embed_dims"])
        self.heads: list[int] = list(sizes["num_heads"])
        self.embeds = nn.ModuleList(getattr(trunk, f"patch_embed{i + 1}") for i in range(STAGES))
        self.blocks = nn.ModuleList(getattr(trunk, f"block{i + 1}") for i in range(STAGES))
        self.norms = nn.ModuleList(getattr(trunk, f"norm{i + 1}") for i in range(STAGES))

    def stage(self, index: int, x_BCHW: Tensor) -> Tensor:
        """Return the normed output of stage ``index`` (0 to 3), at stride 4, 8, 16, 32."""
        result: Tensor = self.norms[index](self.blocks[index](self.embeds[index](x_BCHW)))
        return result

    def repository(self, spec: EncoderSpec) -> str:
        """Return where the Hugging Face hub holds the weights of size ``spec``: segmentation-models-pytorch's copy."""
        return f"smp-hub/{spec}.{self.tags[0]}"

    def translate(self, weights: Weights) -> Weights:
        """Return NVIDIA's weights under our names."""
        return {rename(MIT_RULES, key): tensor for key, tensor in weights.items()}


def mix_transformer_sizes() -> dict[tuple[tuple[int, ...], tuple[int, ...]], str]:
    """Return the known encoders' names by their depths and dims."""
    from segmentation_models_pytorch.encoders.mix_transformer import mix_transformer_encoders as known

    sizes = {name: entry["params"] for name, entry in known.items()}
    return {(tuple(size["depths"]), tuple(size["embed_dims"])): name for name, size in sizes.items()}


class PerceptronHead(nn.Module):
    """One linear layer per scale, all brought to the finest, one more to mix them, class logits at stride 4.

    Args:
        channels: Channels of the maps, finest first.
        width: Channels inside the head.
        num_classes: Number of classes K.
        dropout: Chance of a channel to be dropped before the classifier.
    """

    def __init__(self, channels: Sequence[int], width: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.mix = nn.Sequential(
            nn.Conv2d(len(channels) * width, width, 1), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU(inplace=True)
        )
        init_transformer(self)
        self.classifier = Classifier(width, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at stride 4 from maps at strides [4, 8, 16, 32]."""
        size = features[0].shape[2:]
        projected = [resize(project(x), size) for project, x in zip(self.projections, features, strict=True)]
        # Coarsest first, as in the published weights.
        result: Tensor = self.classifier(self.mix(torch.cat(projected[::-1], 1)))
        return result

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a head that projects and mixes in one step before it enlarges."""
        return FrugalPerceptronHead(self)


class FrugalPerceptronHead(nn.Module):
    """The same head with one linear layer per scale: what mixes commutes with resampling.

    Args:
        head: The head.
    """

    def __init__(self, head: PerceptronHead) -> None:
        super().__init__()
        mix, *rest = head.mix
        assert isinstance(mix, nn.Conv2d)
        shares = mix.weight.detach().double().flatten(1).chunk(len(head.projections), 1)
        self.projections = nn.ModuleList()
        for project, share in zip(head.projections, reversed(shares), strict=True):
            assert isinstance(project, nn.Conv2d) and project.bias is not None and mix.bias is not None
            both = nn.Conv2d(project.in_channels, mix.out_channels, 1)
            bias = share @ project.bias.double() + mix.bias.double() / len(shares)
            weight = share @ project.weight.double().flatten(1)
            both.weight = nn.Parameter(weight[:, :, None, None].to(mix.weight.dtype))
            both.bias = nn.Parameter(bias.to(mix.weight.dtype))
            self.projections.append(both)
        self.rest = nn.Sequential(*rest, head.classifier)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at stride 4 from maps at strides [4, 8, 16, 32]."""
        size = features[0].shape[2:]
        first, *others = (project(x) for project, x in zip(self.projections, features, strict=True))
        result: Tensor = self.rest(sum((resize(x, size) for x in others), start=first))
        return result


def init_transformer(module: nn.Module) -> None:
    """Draw linear layers below ``module`` from a normal of deviation 0.02, convolutions from variance 2 / fan-out."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02)
        elif isinstance(child, nn.Conv2d):
            fan_out = child.weight[0, 0].numel() * child.out_channels // child.groups
            nn.init.normal_(child.weight, std=(2 / fan_out) ** 0.5)
        if isinstance(child, nn.Linear | nn.Conv2d) and child.bias is not None:
            nn.init.zeros_(child.bias)
