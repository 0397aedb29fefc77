"""Pre-training: the folder it leaves, its figures, and that a cut-short run ends on the same bits."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from tests.recipes.toys import corpus, pretrain_config
from wikirl.errors import BackboneError, ConfigError, CorpusError, RunError
from wikirl.models.backbone import SHIPPED, backbone_folder, load_backbone, load_gpt
from wikirl.recipes.pretrain import pretrain
from wikirl.recipes.pretrain_settings import PRESETS, check_pretraining, from_preset, warmup_steps
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
    assert re.search(r"corpus.txt \(fingerprint \w+\): 200 documents", card)


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
    assert start.replace("_", r"\_") in (tmp_path / "second" / "README.md").read_text()
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


def test_bytes_as_tokenizer(tmp_path: Path) -> None:
    summary = pretrain(pretrain_config(corpus(tmp_path), tokenizer="bytes"), tmp_path / "out", precision="float32")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "naïve 海 <|endoftext|>\n  the  cat"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "out").config.vocab_size == 257
    assert summary["held_out_bits_per_byte"] == pytest.approx(summary["held_out_loss"] / math.log(2))


def card(folder: Path, text: Path, **options: Any) -> str:
    pretrain(pretrain_config(text, num_steps=1, **options), folder, precision="float32")
    return (folder / "README.md").read_text()


def test_the_card_tells_the_licence_of_the_text(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    assert "Source and licence of the training text are not known" in card(tmp_path / "unknown", text)
    (tmp_path / "LICENSE").write_text("CC BY-SA 3.0\n```\n# not a heading\n")
    found = card(tmp_path / "found", text)
    assert "````text\nLICENSE, found beside it:\n\nCC BY-SA 3.0\n```\n# not a heading\n````\n" in found
    given = card(tmp_path / "given", text, attribution="By me, **MIT**.")
    assert "\nBy me, **MIT**.\n" in given
    assert "CC BY-SA" not in given


def test_names_of_files_stay_in_their_cell(tmp_path: Path) -> None:
    path = tmp_path / "a|b <i>*c*.txt"
    path.write_bytes(corpus(tmp_path).read_bytes())
    assert r"| corpus | a\|b \<i\>\*c\*.txt (fingerprint" in card(tmp_path / "out", path)


def test_the_field_and_the_splits_of_a_folder(tmp_path: Path) -> None:
    documents = corpus(tmp_path).read_text().split("\n\n")
    (tmp_path / "data").mkdir()
    for name, part in (("train", documents[:-20]), ("valid", documents[-20:-10]), ("test", documents[-10:])):
        lines = [json.dumps({"body": document}) for document in part]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    found = card(tmp_path / "out", Path(f"{tmp_path / 'data'}#body"))
    assert "180 documents" in found
    assert "| held-out text | its validation files: 10 documents" in found


def test_microbatches_add_up_to_the_batch(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    for parts in (1, 2, 4):
        pretrain(pretrain_config(text, num_microbatches=parts), tmp_path / str(parts), precision="float32")
    whole, *others = (
        [(line["language_loss"], line["gradient_norm"]) for line in read_metrics(tmp_path / str(parts) / "pretraining")]
        for parts in (1, 2, 4)
    )
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-3)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Started by torchrun, they see the same losses as one process at the same batch size."""
    text = corpus(tmp_path)
    flags = (
        f"pretrain --corpus {text} --vocab-size 300 --hidden-size 16 --num-positions 32 --num-layers 2 --num-heads 2 "
        "--num-steps 8 --eval-every 4 --checkpoint-every 4 --precision float32 --num-threads 1 --json"
    ).split()
    alone = subprocess.run(
        [sys.executable, "-m", "wikirl.cli", *flags, "--out", str(tmp_path / "one")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    together = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()),
            "-m", "wikirl.cli", *flags, "--num-microbatches", "2", "--out", str(tmp_path / "two"),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(alone.stdout)["num_tokens_seen"] == json.loads(together.stdout)["num_tokens_seen"]
    one, two = ([line["language_loss"] for line in read_metrics(tmp_path / n / "pretraining")] for n in ("one", "two"))
    assert len(one) == 8
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_steps_are_kept_and_sampled(tmp_path: Path) -> None:
    pretrain(pretrain_config(corpus(tmp_path), keep_every=4), tmp_path / "out", precision="float32")
    kept = sorted(path.name for path in (tmp_path / "out" / "steps").iterdir())
    assert kept == ["step-4", "step-8"]
    last, final = (load_backbone(str(tmp_path / "out" / name)).state_dict() for name in ("steps/step-8", "."))
    assert all(torch.equal(last[name], value) for name, value in final.items())
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "steps" / "step-4").eos_token_id == 0
    scored = [line for line in read_metrics(tmp_path / "out" / "pretraining") if "samples" in line]
    assert [line["step"] for line in scored] == [4, 8]
    for line in scored:
        assert len(line["samples"]) == 3
        assert all(isinstance(sample, str) and "\n" not in sample for sample in line["samples"])
        assert line["tokens_per_second"] > 0
        assert 0 < line["matrix_rate_share"] < 2


@pytest.mark.parametrize("spec", ["shuffled:{text}", "synthetic:markov:states=5,sequences=32"])
def test_controls_are_pre_trained_like_text(tmp_path: Path, spec: str) -> None:
    text = corpus(tmp_path)
    config = pretrain_config(Path(spec.format(text=text)), num_steps=40, learning_rate=1e-2)
    summary = pretrain(config, tmp_path / "out", precision="float32")
    gpt = load_backbone(str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert gpt.word_table is not None
    if spec.startswith("synthetic"):
        assert len(gpt.word_table) == 6
        assert "held_out_bits_per_byte" not in summary
        assert summary["held_out_loss"] < np.log(6)
        assert "its last sequences" in card
    else:
        assert summary["held_out_bits_per_byte"] < 4
        assert "shuffled:corpus.txt" in card


def test_a_hub_that_cannot_be_reached_leaves_the_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = pretrain_config(corpus(tmp_path))
    with pytest.raises(BackboneError, match="the model is whole"):
        pretrain(config, tmp_path / "out", precision="float32", push_to_hub="nobody/nothing")
    assert load_backbone(str(tmp_path / "out")).word_table is not None


def test_presets_give_way_to_what_is_asked() -> None:
    config = from_preset("chibit", corpus="text", num_steps=20_000)
    assert (config.batch_size * config.num_positions, config.learning_rate, config.optimizer) == (65_536, 3e-4, "adamw")
    assert (config.num_steps, config.vocab_size, config.weight_decay) == (20_000, 50_257, 0.01)
    assert warmup_steps(80_000) == 4_000
    assert warmup_steps(600_000) == 10_000
    assert warmup_steps(1) == 1
    for preset in PRESETS:
        check_pretraining(from_preset(preset, corpus="text"))


def test_what_cannot_work(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    with pytest.raises(ConfigError, match="multiple of num_heads"):
        pretrain(pretrain_config(text, num_heads=3), tmp_path / "a")
    with pytest.raises(ConfigError, match="num_steps"):
        pretrain(pretrain_config(text, num_steps=0), tmp_path / "a")
    with pytest.raises(ConfigError, match="multiple of 3 microbatches"):
        pretrain(pretrain_config(text, num_microbatches=3), tmp_path / "a")
    with pytest.raises(CorpusError, match="nothing at"):
        pretrain(pretrain_config(tmp_path / "missing.txt"), tmp_path / "a")
    pretrain(pretrain_config(text, num_steps=1), tmp_path / "b", precision="float32")
    with pytest.raises(RunError, match="num_steps"):
        pretrain(pretrain_config(text, num_steps=2), tmp_path / "b", precision="float32")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_backbones_are_what_their_cards_say(name: str) -> None:
    gpt, folder = load_gpt(name), backbone_folder(name)
    shape = gpt.config
    assert (shape.num_layers, shape.hidden_size, shape.num_heads, shape.num_positions) == (3, 128, 1, 1024)
    assert shape.vocab_size == 8192
    assert (folder / "tokenizer.json").read_bytes() == (backbone_folder("chibit") / "tokenizer.json").read_bytes()
    assert all(torch.isfinite(value).all() for value in gpt.state_dict().values())
    card = (folder / "README.md").read_text()
    assert ("CC BY-SA" in card) == (name in ("chibit", "chibit-28m", "chibit-shuffled"))
    assert ("67,174,400" if name == "chibit" else "28,672,000") in card


def test_shipped_backbones_are_small_and_open_elsewhere() -> None:
    folders = [backbone_folder(name) for name in SHIPPED]
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < 50e6
    for folder in folders:
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer("The city of", return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        assert made.shape == (1, inputs["input_ids"].shape[1] + 3)
