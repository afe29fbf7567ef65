"""New weights for a model at work: read from a folder or a state dict, and checked before they are copied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from openr_data.errors import InputError
from openr_data.types import Weights


def read_weights(weights: Weights) -> Mapping[str, torch.Tensor]:
    """The tensors by name. Raises `InputError` for a folder without safetensors files."""
    if not isinstance(weights, Path):
        return weights
    paths = sorted(weights.glob("*.safetensors"))
    if not paths:
        raise InputError(f"No weights in {str(weights)!r}; expected the *.safetensors files of a model.")
    try:
        return {name: tensor for path in paths for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"Cannot read the weights in {str(weights)!r}: {error}.") from error


def check_weights(model: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise `InputError` unless the tensors are all weights of the model, each in its shape.

    Of weights that a model ties (its embeddings and its output) one name is enough.
    """
    state = model.state_dict()
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        raise InputError(f"The model has no weight {_some(unknown)}; it has {_some(sorted(state))}.")
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    missing = [names[0] for names in names_of.values() if not any(name in tensors for name in names)]
    if missing:
        raise InputError(f"The weights lack {_some(missing)}; expected all {len(names_of)} of the model.")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"The weight {name!r} has the shape {tuple(tensor.shape)}; the model's has {tuple(state[name].shape)}."
            )


@torch.no_grad()
def copy_weights(model: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write the tensors over the weights of the model, in its own precision and on its own device."""
    state = model.state_dict()
    for name, tensor in tensors.items():
        state[name].copy_(tensor)


def write_weights(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the tensors as a file of the folder; of tensors that share their memory the first name alone."""
    distinct: dict[int, str] = {}
    for name, tensor in tensors.items():
        distinct.setdefault(tensor.data_ptr(), name)
    save_file(
        {name: tensors[name].detach().cpu().contiguous() for name in distinct.values()}, folder / "model.safetensors"
    )


def check_version(version: int, now: int) -> None:
    """Raise `ValueError` for a version that is not after the present one: samples are dated by it."""
    if version <= now:
        raise ValueError(f"versions of weights grow: expected one above {now}, not {version}")


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
