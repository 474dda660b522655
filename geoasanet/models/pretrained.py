"""ImageNet weights for encoders, from a local file or the Hugging Face hub.

Under which licence they are published stands with each network and encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geoasanet.errors import CheckpointError
from geoasanet.models.encoders import Encoder, EncoderSpec, Weights
from geoasanet.models.pickles import read_tensor_file

HUB = "imagenet"


def load_encoder_weights(encoders: Sequence[Encoder], spec: EncoderSpec, source: str | Path) -> None:
    """Fill every encoder with the same ImageNet weights, first convolutions adapted to the number of bands.

    One for other than three bands takes the mean of the three, scaled so that a grey image replicated to three bands
    gives the same response. What such files never hold keeps its values: counters of batch norms, and what the
    encoder says.

    Args:
        encoders: What to fill; all of one kind and size.
        spec: Their size.
        source: ``"imagenet"`` for the hub, else a ``.safetensors`` or ``.pth`` file in the publisher's layout.

    Raises:
        CheckpointError: If the file or the hub is out of reach, unreadable, or holds another size.
        ModelError: If the hub knows no weights for this size.
    """
    path = _fetch(encoders[0].repository(spec)) if str(source) == HUB else Path(source)
    weights = _read(path)
    for encoder in encoders:
        try:
            found = encoder.translate(weights)
        except (KeyError, RuntimeError) as error:
            raise _misfit(source, spec, str(error)) from error
        _fill(encoder, found, spec, source)


def _fill(encoder: Encoder, found: Weights, spec: EncoderSpec, source: str | Path) -> None:
    own = encoder.state_dict()
    found = {name: tensor for name, tensor in found.items() if name in own}
    for name, tensor in found.items():
        if name == encoder.first_conv and tensor.ndim == 4:
            found[name] = _adapt_bands(tensor, own[name].shape[1])
        elif _without_ones(tensor) == _without_ones(own[name]):
            # Files keep 1x1 convolutions as matrices or as convolutions, whichever their writer used.
            found[name] = tensor.reshape(own[name].shape)
    missing = [name for name in own if name not in found and not _may_lack(encoder, name)]
    wrong = [name for name, tensor in found.items() if tensor.shape != own[name].shape]
    if missing:
        raise _misfit(source, spec, f"they have no {missing[0]}")
    if wrong:
        raise _misfit(source, spec, f"they have {wrong[0]} of shape {tuple(found[wrong[0]].shape)}")
    encoder.load_state_dict(found, strict=False)


def _may_lack(encoder: Encoder, name: str) -> bool:
    return name.startswith(encoder.may_lack) or name.endswith("num_batches_tracked")


def _without_ones(tensor: Tensor) -> tuple[int, ...]:
    return tuple(side for side in tensor.shape if side != 1)


def _misfit(source: str | Path, spec: EncoderSpec, reason: str) -> CheckpointError:
    return CheckpointError(
        f"Encoder weights {source} do not fit encoder {spec}: {reason}.", "Give the weights of the same encoder."
    )


def _fetch(repository: str) -> Path:
    """Return the local copy of published weights."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"ImageNet weights {repository} cannot be fetched from the Hugging Face hub ({reason}).",
            "Fetch its model.safetensors elsewhere and give that path as encoder_weights.",
        ) from error


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


def _adapt_bands(weight_OIhw: Tensor, in_channels: int) -> Tensor:
    if weight_OIhw.shape[1] == in_channels:
        return weight_OIhw
    total_O1hw = weight_OIhw.sum(1, keepdim=True)
    return total_O1hw.repeat(1, in_channels, 1, 1) / in_channels
