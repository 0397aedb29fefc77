"""`wikirl pretrain`: text → byte-level BPE → packed ids → GPT-2-architecture language model → Hugging Face folder.

The folder holds the model, its tokenizer and a model card; `pretraining/` inside it is the run folder. Started by
torchrun, several processes share each batch; the first writes all files.
"""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from wikirl.errors import ConfigError, RunError
from wikirl.kernels import keep_freed_memory
from wikirl.models.backbone import backbone_folder, load_gpt, push_backbone, save_backbone
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.recipes.language_session import LanguageSession, Texts
from wikirl.recipes.model_card import Card, as_quoted, model_card
from wikirl.recipes.pretrain_settings import PretrainConfig, check_pretraining
from wikirl.reproducibility import (
    choose_device,
    choose_precision,
    precision_name,
    provenance,
    seed_everything,
)
from wikirl.runs import Run, checkpoints_of, interruptible, replacing_folder, write_json
from wikirl.text.corpora import Corpus, open_corpus
from wikirl.text.packing import PackedText, pack_corpus
from wikirl.text.states import StateCorpus
from wikirl.text.tokenizers import (
    byte_tokenizer,
    end_token,
    load_tokenizer,
    num_ids,
    save_tokenizer,
    state_tokenizer,
    tokenizer_of,
    train_tokenizer,
)
from wikirl.training.processes import Processes, processes


def pretrain(
    config: PretrainConfig,
    out: Path | str,
    *,
    device: str = "auto",
    precision: str = "auto",
    push_to_hub: str | None = None,
) -> dict[str, Any]:
    """Train a language model and leave a Hugging Face folder at `out`; continues a run that was cut short.

    Args:
        config: What to train on what.
        out: Folder for the model.
        device: auto, cpu or cuda.
        precision: auto, float32 or bfloat16.
        push_to_hub: Repository to upload the folder to as well, as `owner/name`.

    Returns:
        The held-out figures and what was spent.

    Raises:
        ConfigError: a setting that cannot work.
        CorpusError: text or tokenizer cannot be read.
        RunError: `out` holds something else.
        BackboneError: the hub does not take the folder, which is whole at `out` all the same.
    """
    keep_freed_memory()
    device = choose_device(device)
    with processes(device) as mine:
        return _pretrain(config, Path(out), mine, device, choose_precision(precision, device), push_to_hub)


def _pretrain(
    config: PretrainConfig,
    out: Path,
    mine: Processes,
    device: str,
    autocast: torch.dtype | None,
    push_to_hub: str | None,
) -> dict[str, Any]:
    check_pretraining(config, mine.size)
    corpus = open_corpus(config.corpus)
    if (out / "config.json").exists() and not (out / "pretraining" / "config.json").exists():
        raise RunError(
            f"expected a new folder, or one that pretrain made; {out} holds another model; choose another --out"
        )
    resolved = {
        **asdict(config),
        "kind": "pretrain",
        "corpus_fingerprint": corpus.fingerprint,
        "precision": precision_name(autocast),
    }
    # Asked for now: where the hub has to say it, it may not answer hours later.
    attribution = config.attribution or as_quoted(corpus.attribution)
    with ExitStack() as stack:
        run = None
        if mine.is_first:
            run = stack.enter_context(Run(out / "pretraining", resolved, provenance(config.seed)))
        with mine.first_alone():
            tokenizer = _tokenizer(config, corpus, out / "pretraining" / "tokenizer")
            training, held_out = _packed(config, corpus, tokenizer)
        seed_everything(config.seed)
        gpt = make_gpt(config, num_ids(tokenizer))
        words = None if isinstance(corpus, StateCorpus) else tokenizer
        session = LanguageSession(config, gpt, Texts(training, held_out, words), mine, device, autocast)
        _train(session, run, out, tokenizer)
        summary = _summary(session)
        if run:
            card = _card(session, tokenizer, corpus, precision_name(autocast), attribution, summary)
            _leave_model(session, tokenizer, card, out)
            write_json(run.folder / "summary.json", summary)
            if push_to_hub:
                push_backbone(out, push_to_hub)
        return summary


def _train(session: LanguageSession, run: Run | None, out: Path, tokenizer: Tokenizer) -> None:
    """All steps from where the run stands; the first process logs, scores and saves."""
    config, mine = session.config, session.processes
    with mine.first_alone():  # the first drops what a killed run logged after its last checkpoint
        saved = run.resume() if run else next(iter(checkpoints_of(out / "pretraining")[-1:]), None)
    session.resume(saved)
    with interruptible() as stopped:
        for metrics in session.steps():
            step = metrics.step
            if run:
                run.log(session.figures_line(metrics))
            stop = mine.any(stopped())
            if run:
                if stop or step % config.checkpoint_every == 0 or step == config.num_steps:
                    session.checkpoint(run, step)
                if config.keep_every and step % config.keep_every == 0:
                    with replacing_folder(out / "steps" / f"step-{step}") as temporary:
                        save_backbone(session.gpt, temporary, end_token(tokenizer), torch.float16)
                        save_tokenizer(tokenizer, temporary, config.num_positions)
            if stop:
                raise KeyboardInterrupt


def _tokenizer(config: PretrainConfig, corpus: Corpus, folder: Path) -> Tokenizer:
    """The tokenizer asked for, kept in the run so that a resumed one, and every process, has the same."""
    if folder.is_dir():
        return load_tokenizer(folder)
    if config.start:
        tokenizer = tokenizer_of(str(backbone_folder(config.start)))
    elif config.tokenizer:
        bytes_alone = config.tokenizer == "bytes"
        tokenizer = byte_tokenizer() if bytes_alone else load_tokenizer(backbone_folder(config.tokenizer))
    elif isinstance(corpus, StateCorpus):
        tokenizer = state_tokenizer(corpus.states)
    else:
        documents = iter(tqdm(corpus.documents(), desc="learning the tokenizer", unit=" documents", leave=False))
        tokenizer = train_tokenizer(documents, config.vocab_size)
    with replacing_folder(folder) as temporary:
        save_tokenizer(tokenizer, temporary, config.num_positions)
    return tokenizer


def _packed(config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> tuple[PackedText, PackedText]:
    """Training and held-out ids, from the cache if they were made before."""
    if config.held_out:
        return pack_corpus(corpus, "whole", tokenizer), pack_corpus(open_corpus(config.held_out), "whole", tokenizer)
    return pack_corpus(corpus, "training", tokenizer), pack_corpus(corpus, "held-out", tokenizer)


def make_gpt(config: PretrainConfig, vocab_size: int) -> GPT:
    """A model of the sizes asked for, or the one to go on from."""
    if config.start is None:
        return GPT(
            GPTConfig(
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                hidden_size=config.hidden_size,
                inner_size=4 * config.hidden_size,
                num_positions=config.num_positions,
                vocab_size=vocab_size,
                activation=config.activation,
                embedding_dropout=config.dropout,
                attention_dropout=config.dropout,
                residual_dropout=config.dropout,
            )
        )
    model = load_gpt(config.start).with_dropout(
        embedding=config.dropout, attention=config.dropout, residual=config.dropout
    )
    if model.config.num_positions < config.num_positions or model.config.vocab_size < vocab_size:
        raise ConfigError(
            f"expected {config.start} to have at least {config.num_positions} positions and {vocab_size} words; "
            f"found {model.config.num_positions} and {model.config.vocab_size}; give a smaller --num-positions"
        )
    return model


def _summary(session: LanguageSession) -> dict[str, Any]:
    config, texts = session.config, session.texts
    return {
        **(session.figures or (session.evaluate() if session.processes.is_first else {})),
        "num_parameters": sum(parameter.numel() for parameter in session.gpt.parameters()),
        "num_tokens_seen": config.num_steps * config.batch_size * config.num_positions,
        "num_tokens_corpus": texts.training.num_tokens,
        "num_bytes_held_out": texts.held_out.num_bytes,
        "minutes": round(session.seconds / 60, 1),
    }


def _card(
    session: LanguageSession,
    tokenizer: Tokenizer,
    corpus: Corpus,
    precision: str,
    attribution: str,
    summary: dict[str, Any],
) -> str:
    config, texts = session.config, session.texts
    return model_card(
        Card(
            config=asdict(config),
            architecture=asdict(session.gpt.config),
            corpus=f"{corpus.name} (fingerprint {corpus.fingerprint}): {_size(texts.training)}",
            held_out=f"{_held_out_name(config, corpus)}: {_size(texts.held_out)}",
            vocab_size=tokenizer.get_vocab_size(),
            precision=precision,
            attribution=attribution,
            summary=summary,
            provenance=provenance(config.seed),
        )
    )


def _leave_model(session: LanguageSession, tokenizer: Tokenizer, card: str, out: Path) -> None:
    """Write the Hugging Face folder whole beside its place, then move it, config.json last.

    Without config.json nothing takes the folder for a model.
    """
    with TemporaryDirectory(dir=out / "pretraining") as temporary:
        made = Path(temporary)
        save_backbone(session.gpt, made, end_token(tokenizer), torch.float16)
        save_tokenizer(tokenizer, made, session.config.num_positions)
        (made / "README.md").write_text(card)
        for file in sorted(made.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(out / file.name)


def _held_out_name(config: PretrainConfig, corpus: Corpus) -> str:
    if config.held_out:
        return open_corpus(config.held_out).name
    return corpus.held_out_name


def _size(text: PackedText) -> str:
    size = f", {text.num_bytes / 1e6:,.2f} MB" if text.num_bytes else ""
    return f"{text.num_documents:,} documents{size}, {text.num_tokens:,} tokens"
