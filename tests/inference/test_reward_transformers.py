"""What is the transformers backend's own: heads of reward models that others have saved."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from openr_data.errors import InputError
from openr_data.inference.reward_transformers import TransformersReward
from openr_data.prm_format import CONFIG_KEY, prm_format

from .reward_contract import Case, PlainModel, make_prm, score

CASE: Case = ("How many pens?", ("Tom has 2*7=14 pens.", "She has 3+4=7 pens.", "The answer is 21."))


def make_value_head(folder: Path) -> Path:
    """A reward model as Skywork's are saved: a causal model with the value head of TRL beside its own."""
    make_prm(folder, "scalar")
    weights = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        weights[f"v_head.summary.{name}"] = weights.pop(f"score.{name}")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for name in ("num_labels", "id2label", "label2id", CONFIG_KEY):
        config.pop(name, None)
    config["architectures"] = ["Qwen2ForPrmModel"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_value_head_is_read_by_the_format_of_its_model(tmp_path: Path) -> None:
    folder = make_value_head(tmp_path / "skywork")
    with closing(TransformersReward(str(folder), device="cpu", format="skywork")) as reward:
        (found,) = score(reward, CASE)
    form = replace(prm_format("skywork"), models=())
    make_prm(tmp_path / "plain", "scalar")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps({**config, CONFIG_KEY: form.as_dict()}))
    expected = PlainModel(tmp_path / "plain").scores(*CASE)
    assert max(expected) - min(expected) > 0.02
    assert found == pytest.approx(expected, abs=1e-5)


def test_one_number_is_not_read_from_a_head_of_two(tmp_path: Path) -> None:
    folder = make_prm(tmp_path / "two", "classes")
    config = json.loads((folder / "config.json").read_text())
    del config[CONFIG_KEY]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"Cannot load the reward model"):
        TransformersReward(str(folder), device="cpu", format="skywork")
