"""Checks of what lies in the model's folder: settings, ``gram.json``, digests, tokenizer, weights."""

from __future__ import annotations

from collections.abc import Iterator

from gram.doctor.facts import Facts
from gram.doctor.finding import Finding, error, ok, skipped, warning
from gram.doctor.once import listening
from gram.modeling.adapter_folder import holds_adapter
from gram.modeling.digests import check_files_at
from gram.modeling.manifest import FILE
from gram.modeling.opening import context_of


def folder(facts: Facts) -> Iterator[Finding]:
    """Is there a model, and can its settings be read?"""
    place = facts.folder
    where = place.name if place.folder else f"{place.name} on the Hub, revision {place.revision or 'newest'}"
    yield ok(f"an adapter: {where}" if holds_adapter(place) else where)


def config(facts: Facts) -> Iterator[Finding]:
    """Can the configuration be read?"""
    found = facts.config
    yield ok(f"{found.model_type}, vocabulary {found.get_text_config().vocab_size}")


def manifest(facts: Facts) -> Iterator[Finding]:
    """Is ``gram.json`` there, and valid?"""
    if facts.manifest is None:
        yield ok(f"no {FILE}: a raw model")
        return
    trained = facts.manifest.kind
    if trained != facts.kind:
        yield warning(
            f"trained as a {trained}, asked as a {facts.kind}",
            "leave --kind out, unless this is what you mean",
        )
    else:
        yield ok(f"a {trained}, trained on prompts of up to {facts.manifest.max_length} tokens")


def kind(facts: Facts) -> Iterator[Finding]:
    """Can it be asked as this kind, by its head?"""
    _ = facts.head
    yield ok(f"asked as a {facts.kind}")


def files(facts: Facts) -> Iterator[Finding]:
    """Are the files those that ``gram.json`` says the model was saved with?"""
    place, found = facts.folder, facts.manifest
    if found is None:
        yield ok(f"nothing to compare with: no {FILE}")
        return
    if not found.files:
        yield skipped(
            f"{FILE} has no digests of the files", "train or adapt again to have them, if it matters"
        )
        return
    with listening() as heard:
        check_files_at(place, found.files)
    for text in heard:
        yield warning(text, "copy the folder again from where it was saved")
    if not heard:
        what = f"all {len(found.files)} files" if place.folder else "those that are on this machine"
        yield ok(f"{what} are as they were saved")


def tokenizer(facts: Facts) -> Iterator[Finding]:
    """Is there a tokenizer, and one that tells which characters a token stands for?"""
    found = facts.tokenizer
    if not found.is_fast:
        yield error(
            "not a fast tokenizer: answers cannot be found in a prompt by their characters",
            "save it with tokenizer.json (AutoTokenizer.from_pretrained(MODEL, use_fast=True))",
        )
    else:
        yield ok(f"{len(found)} tokens, reads up to {context_of(facts.config, found)}")


def special_tokens(facts: Facts) -> Iterator[Finding]:
    """Is the padding a token of its own, and is there one that ends an answer?"""
    found = facts.tokenizer
    if found.pad_token is not None and found.pad_token == found.eos_token:
        yield warning(
            f"pad and eos are one token ({found.eos_token}): gram masks padding by place and reads the right "
            "tokens, but code that masks it by its id hides the end of every answer too, in training and in "
            "pooling",
            "give the padding a token of its own (tokenizer.pad_token = ...) before you train elsewhere",
        )
    elif found.eos_token is None and facts.kind != "judge":
        yield warning(
            "no eos token: answers have no end, and one that breaks off is as likely as one that is complete",
            "set tokenizer.eos_token, and train with it",
        )
    else:
        yield ok(f"bos {found.bos_token}, eos {found.eos_token}, pad {found.pad_token}")


def weights(facts: Facts) -> Iterator[Finding]:
    """Are all weights there, finite, and of a model that can be asked so?"""
    loaded = facts.weights
    count = sum(weight.numel() for weight in loaded.model.parameters())
    yield ok(f"{count / 1e6:,.1f} million, {facts.precision}")
