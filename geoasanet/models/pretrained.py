"""ImageNet weights for ConvNeXt-V2 encoders, from a local file or timm's hub.

The published weights are CC BY-NC 4.0 (see :mod:`geoasanet.models.asanet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models.encoders import ConvNeXtEncoder, EncoderSpec, build_trunk
from geoasanet.models.pickles import read_tensor_file

HUB = "imagenet"
PREFERRED_TAGS = ("fcmae_ft_in22k_in1k_384", "fcmae_ft_in22k_in1k", "fcmae_ft_in1k")
"""timm's tags of the weights, best first; the first are those that the original recipe starts from."""

Weights = dict[str, Tensor]


def load_encoder_weights(encoders: Sequence[ConvNeXtEncoder], spec: EncoderSpec, source: str | Path) -> None:
    """Fill every encoder with the same ImageNet weights, stems adapted to its number of bands.

    A stem for other than three bands takes the mean of the three, scaled so that a grey image replicated to three
    bands gives the same response. The norms after stages 0 to 2 are not in such files and keep their values.

    Args:
        encoders: What to fill.
        spec: Their size.
        source: ``"imagenet"`` for timm's hub, else a ``.safetensors`` or ``.pth`` file in timm's or Meta's layout.

    Raises:
        CheckpointError: If the file or the hub is out of reach, unreadable, or holds another size.
        ModelError: If the hub knows no weights for this size.
    """
    weights = _from_file(_fetch(spec) if str(source) == HUB else Path(source), spec)
    for encoder in encoders:
        own = encoder.state_dict()
        found = {}
        for key, tensor in weights.items():
            name = key.replace("head.norm.", f"norms.{len(encoder.dims) - 1}.")
            if name in own:
                found[name] = _adapt_stem(tensor, own[name].shape[1]) if name == "stem.0.weight" else tensor
        missing = [key for key in own if key not in found and not key.startswith("norms.")]
        wrong = [key for key, tensor in found.items() if tensor.shape != own[key].shape]
        if missing or wrong:
            first = (missing or wrong)[0]
            what = f"no {first}" if missing else f"{first} of shape {tuple(found[first].shape)}"
            raise CheckpointError(
                f"Encoder weights {source} do not fit encoder {spec}: they have {what}.",
                "Give the weights of the same ConvNeXt-V2 size.",
            )
        encoder.load_state_dict(found, strict=False)


def _fetch(spec: EncoderSpec) -> Path:
    """Return the local copy of a named encoder's published weights."""
    import timm
    from huggingface_hub import hf_hub_download

    if not isinstance(spec, str):
        raise ModelError("ImageNet weights exist for encoders that timm knows by name only.", "Give a file.")
    published = timm.list_models(f"{spec}.*", pretrained=True)
    names = [f"{spec}.{tag}" for tag in PREFERRED_TAGS if f"{spec}.{tag}" in published]
    if not names:
        raise ModelError(f"There are no ImageNet weights for encoder {spec!r}.", "Give a file.")
    repository = f"timm/{names[0]}"
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"ImageNet weights {repository} cannot be fetched from the Hugging Face hub ({reason}).",
            "Fetch its model.safetensors elsewhere and give that path as encoder_weights.",
        ) from error


def _from_file(path: Path, spec: EncoderSpec) -> Weights:
    from timm.models.convnext import checkpoint_filter_fn

    state = _read(path)
    trunk = build_trunk(spec, 3)
    try:
        weights: Weights = checkpoint_filter_fn(state, trunk)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"Encoder weights {path} do not fit encoder {spec} ({error}).",
            "Give the weights of the same ConvNeXt-V2 size.",
        ) from error
    own = trunk.state_dict()
    # Files keep 1x1 convolutions as matrices or as convolutions, whichever their writer used.
    return {
        key: tensor.reshape(own[key].shape) if key in own and tensor.numel() == own[key].numel() else tensor
        for key, tensor in weights.items()
    }


def _read(path: Path) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"Encoder weights {path} do not exist.", "Give a .safetensors or .pth file.")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"Encoder weights {path} are damaged ({error}).", "Fetch them again.") from error
    file = read_tensor_file(path)
    state = file.content
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise CheckpointError(f"Encoder weights {path} hold no named tensors.", "Give a state dict.")
    return file.tensors(state)


def _adapt_stem(weight_OIhw: Tensor, in_channels: int) -> Tensor:
    if weight_OIhw.shape[1] == in_channels:
        return weight_OIhw
    total_O1hw = weight_OIhw.sum(1, keepdim=True)
    return total_O1hw.repeat(1, in_channels, 1, 1) / in_channels
