"""Pre-training: the folder it leaves, its figures, and that a cut-short run ends on the same bits."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from tests.recipes.toys import corpus, pretrain_config
from wikirl.errors import ConfigError, CorpusError, RunError
from wikirl.recipes.pretrain import pretrain
from wikirl.runs import read_metrics


def test_leaves_a_hugging_face_folder_with_honest_figures(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("the dog sat on a red mat\n\none old cat ran down to see its hat fall again")
    summary = pretrain(
        pretrain_config(text, held_out=str(held_out), num_steps=60), tmp_path / "out", precision="float32"
    )

    # The same number from the folder alone, with Hugging Face's own classes.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    documents = held_out.read_text().split("\n\n")
    ids = [token for document in documents for token in [*tokenizer(document)["input_ids"], tokenizer.eos_token_id]]
    assert len(ids) <= 33  # one block, so that every token sees all before it
    block = torch.tensor(ids)[None]
    with torch.no_grad():
        logits = model(block[:, :-1]).logits[0]
    per_token = torch.nn.functional.cross_entropy(logits, block[0, 1:]).item()
    # float16 storage costs a little
    assert summary["held_out_loss"] == pytest.approx(per_token, abs=2e-3)
    num_bytes = sum(len(document.encode()) + 1 for document in documents)
    bits = summary["held_out_loss"] * len(ids) / math.log(2) / num_bytes
    assert summary["held_out_bits_per_byte"] == pytest.approx(bits)
    # Random words of 18 kinds: it has learnt something beyond 8 bits a byte.
    assert summary["held_out_bits_per_byte"] < 4
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{summary['held_out_bits_per_byte']:.4f}" in card
    assert "corpus.txt, 200 documents" in card


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resumes_to_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    config = pretrain_config(corpus(tmp_path), dropout=0.1, optimizer=optimizer, learning_rate=3e-3)
    pretrain(config, tmp_path / "whole", precision="float32")
    pretrain(config, tmp_path / "cut", precision="float32")
    # As if it had been killed after step 6: the last checkpoint and everything after it are gone.
    newest = tmp_path / "cut" / "pretraining" / "checkpoints" / "step-8"
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    (tmp_path / "cut" / "model.safetensors").unlink()
    pretrain(config, tmp_path / "cut", precision="float32")
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    losses = [
        [line["language_loss"] for line in read_metrics(tmp_path / name / "pretraining")] for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wikirl.runs import Run

    log, config = Run.log, pretrain_config(corpus(tmp_path), checkpoint_every=100)

    def interrupting(self: Run, metrics: dict[str, float]) -> None:
        log(self, metrics)
        if metrics["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "log", interrupting)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "out", precision="float32")
    monkeypatch.undo()
    assert (tmp_path / "out" / "pretraining" / "checkpoints" / "step-3").is_dir()
    pretrain(config, tmp_path / "out", precision="float32")
    assert [line["step"] for line in read_metrics(tmp_path / "out" / "pretraining")] == list(range(1, 9))


def test_going_on_from_a_backbone(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    first = pretrain(pretrain_config(text, num_steps=60), tmp_path / "first", precision="float32")
    start = str(tmp_path / "first")
    options = {"num_layers": 7, "hidden_size": 8, "vocab_size": 999}  # the backbone's own sizes count
    config = pretrain_config(text, start=start, num_steps=20, learning_rate=1e-3, table_learning_rate=1e-3, **options)
    second = pretrain(config, tmp_path / "second", precision="float32")
    assert second["held_out_loss"] < first["held_out_loss"]
    assert second["num_parameters"] == first["num_parameters"]
    tokenizers = [(tmp_path / name / "tokenizer.json").read_text() for name in ("first", "second")]
    assert tokenizers[0] == tokenizers[1]
    assert start in (tmp_path / "second" / "README.md").read_text()
    with pytest.raises(ConfigError, match="positions"):
        pretrain(pretrain_config(text, start=start, num_positions=64), tmp_path / "third", precision="float32")


def test_own_held_out_documents_are_not_trained_on(tmp_path: Path) -> None:
    summary = pretrain(pretrain_config(corpus(tmp_path, 200)), tmp_path / "out", precision="float32")
    total = sum(len(document.encode()) + 1 for document in (tmp_path / "corpus.txt").read_text().split("\n\n"))
    assert 0 < summary["num_bytes_held_out"] < total / 50


def test_gpt2_files_as_tokenizer(tmp_path: Path) -> None:
    pretrain(pretrain_config(corpus(tmp_path)), tmp_path / "first", precision="float32")
    model = json.loads((tmp_path / "first" / "tokenizer.json").read_text())["model"]
    files = tmp_path / "bpe"
    files.mkdir()
    (files / "encoder.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (files / "vocab.bpe").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    text = str(tmp_path / "corpus.txt")
    pretrain(pretrain_config(Path(text), tokenizer=str(files)), tmp_path / "second", precision="float32")
    first, second = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("first", "second"))
    assert first("the old cat, naïve")["input_ids"] == second("the old cat, naïve")["input_ids"]


def test_what_cannot_work(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    with pytest.raises(ConfigError, match="multiple of num_heads"):
        pretrain(pretrain_config(text, num_heads=3), tmp_path / "a")
    with pytest.raises(ConfigError, match="num_steps"):
        pretrain(pretrain_config(text, num_steps=0), tmp_path / "a")
    with pytest.raises(CorpusError, match="nothing at"):
        pretrain(pretrain_config(tmp_path / "missing.txt"), tmp_path / "a")
    pretrain(pretrain_config(text, num_steps=1), tmp_path / "b", precision="float32")
    with pytest.raises(RunError, match="num_steps"):
        pretrain(pretrain_config(text, num_steps=2), tmp_path / "b", precision="float32")


def test_the_shipped_backbone_is_what_its_card_says() -> None:
    from wikirl.models.backbone import CHIBIT, load_gpt

    config = load_gpt("chibit").config
    assert (config.num_layers, config.hidden_size, config.num_heads, config.num_positions) == (3, 128, 1, 1024)
    assert sum(file.stat().st_size for file in CHIBIT.iterdir()) < 16e6
    card = (CHIBIT / "README.md").read_text()
    assert "CC BY-SA" in card
    assert np.isfinite(load_gpt("chibit").wte.weight.detach().numpy()).all()  # type: ignore[union-attr]
