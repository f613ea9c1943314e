"""The files that the references' tokenizers are read from, so that none is downloaded."""

import json
from pathlib import Path

import open_clip
import zstandard
from transformers import BertConfig, BertTokenizerFast, CLIPTokenizerFast

BERT_WORD_PIECES = Path(__file__).parents[2] / "third_party" / "vocab" / "bert_word_pieces.txt.zst"
BERT = "bert-base-uncased"


def bert(folder: Path) -> BertTokenizerFast:
    """Returns bert-base-uncased's tokenizer, its vocab.txt being written to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = zstandard.ZstdDecompressor().stream_reader(BERT_WORD_PIECES.read_bytes()).read()
    (folder / "vocab.txt").write_bytes(pieces)
    return BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=512)


def bert_by_name(folder: Path) -> None:
    """Writes to folder/bert-base-uncased what from_pretrained("bert-base-uncased") reads of the tokenizer and the
    configuration in a process that works in the folder: a folder of that name comes before a download."""
    bert(folder / BERT).save_pretrained(folder / BERT)
    BertConfig().save_pretrained(folder / BERT)


def clip(folder: Path) -> CLIPTokenizerFast:
    """Returns transformers' CLIP tokenizer, its vocab.json and merges.txt being made from open_clip's."""
    folder.mkdir(parents=True, exist_ok=True)
    source = open_clip.SimpleTokenizer()
    words = [*list(source.encoder)[:-2], "<|startoftext|>", "<|endoftext|>"]
    merges = ["#version: 0.2", *(" ".join(pair) for pair in source.bpe_ranks)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", "utf-8")
    return CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
