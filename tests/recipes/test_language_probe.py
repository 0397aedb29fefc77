"""Perplexity of a policy's backbone, before and after fine-tuning."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from wikirl.errors import ConfigError
from wikirl.recipes.finetune import finetune

from .toys import backbone, dataset, finetune_config


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    folder = tmp_path_factory.mktemp("toys")
    start = backbone(folder)
    (folder / "text.txt").write_text("the dog sat on a red mat")
    return dataset(folder), start, str(folder / "text.txt")


def run(toys: tuple[str, str, str], out: Path, **options: Any) -> dict[str, Any]:
    data, start, _ = toys
    config = finetune_config(data, start, learning_rate=1e-2, warmup_steps=1, **options)
    return finetune(config, out, device="cpu", precision="float32")


def test_before_is_what_hugging_face_finds(tmp_path: Path, toys: tuple[str, str, str]) -> None:
    _, start, text = toys
    language = run(toys, tmp_path / "run", language_text=text)["language"]
    tokenizer, model = AutoTokenizer.from_pretrained(start), GPT2LMHeadModel.from_pretrained(start).float().eval()
    ids = torch.tensor([[*tokenizer(Path(text).read_text())["input_ids"], tokenizer.eos_token_id]])
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits[0]
    expected = math.exp(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item())
    assert language["text"] == text
    assert language["perplexity_before"] == pytest.approx(expected, rel=1e-4)
    assert language["perplexity_after"] > language["perplexity_before"]


def test_co_training_keeps_what_fine_tuning_forgets(tmp_path: Path, toys: tuple[str, str, str]) -> None:
    text = toys[2]
    own = {"language_text": text, "num_steps": 60, "eval_every": 60}
    forgetting = run(toys, tmp_path / "without", **own)["language"]
    reading = {"cotraining_corpus": str(Path(toys[1]).parent / "corpus.txt"), "cotraining_fades": False}
    keeping = run(toys, tmp_path / "with", **own, **reading)["language"]
    assert keeping["perplexity_before"] == forgetting["perplexity_before"]
    assert keeping["perplexity_after"] < forgetting["perplexity_after"] / 2


def test_measuring_changes_nothing(tmp_path: Path, toys: tuple[str, str, str]) -> None:
    for recipe in ("fair", "paper"):
        folders = tmp_path / f"{recipe}-plain", tmp_path / f"{recipe}-measured"
        run(toys, folders[0], recipe=recipe)
        run(toys, folders[1], recipe=recipe, language_text=toys[2])
        plain, measured = ((folder / "policy" / "model.safetensors").read_bytes() for folder in folders)
        assert plain == measured


def test_a_backbone_without_words_cannot_read(tmp_path: Path, toys: tuple[str, str, str]) -> None:
    config = finetune_config(toys[0], "scratch", language_text=toys[2])
    with pytest.raises(ConfigError, match="leave --language-text out"):
        finetune(config, tmp_path / "run")
