"""Recognise option files of trainers whose files are not translated."""

from __future__ import annotations

import tomllib
from pathlib import Path

from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.recipe.nodes import Node, compose_file

_REDUX_KEYS = ("use_amp", "amp_bf16", "fast_matmul", "use_compile", "deterministic")


def check_trainer(path: Path) -> None:
    """Raise an error for an option file of neosr or traiNNer-redux, which names what it describes.

    Args:
        path: Option file of any trainer.

    Raises:
        TrainingError: The file is one of these, or cannot be read.
    """
    if path.suffix.lower() == ".toml":
        name, network = "neosr", _network_in_toml(path)
    else:
        root = compose_file(path)
        if not _is_redux(root):
            return
        name, network = "traiNNer-redux", _text(root, "network_g.type")
    wanted = f" (network {network})" if network else ""
    raise TrainingError(
        f"{printable(path)}: is an option file of {name}{wanted}, which is not translated; write a "
        "recipe, or name an option file of Real-ESRGAN or BasicSR"
    )


def _network_in_toml(path: Path) -> str:
    try:
        options = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TrainingError(
            f"{printable(path)}: cannot be read ({reason}); name an option file"
        ) from error
    except (ValueError, RecursionError):  # what follows from the suffix holds anyway
        return ""
    network = options.get("network_g")
    return str(network.get("type", "")) if isinstance(network, dict) else ""


def _is_redux(root: Node) -> bool:
    """Whether a file has keys of traiNNer-redux, and not the model type that BasicSR needs."""
    keys = root.entries()
    if "model_type" in keys:
        return False
    losses = root.find("train.losses").key == "train.losses" and "losses" in (
        keys["train"].children() if "train" in keys else ()
    )
    return losses or any(key in keys for key in _REDUX_KEYS)


def _text(root: Node, key: str) -> str:
    node = root.find(key)
    return "" if node.is_mapping else str(node.to_python())
