"""Learns byte-pair merges in CLIP's format and writes and applies them.

Ids are laid out as CLIP's: 256 bytes, the same 256 closing a word (</w>), the merges in order, start, end.
"""

import json
from collections import Counter
from pathlib import Path

import regex

START, END = "<|startoftext|>", "<|endoftext|>"
WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def byte_letters():
    """CLIP's printable letter for each byte, in the order of its ids."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def letters(word, table):
    symbols = [table[b] for b in word.encode()]
    return (*symbols[:-1], symbols[-1] + "</w>")


def join(symbols, pair):
    """`symbols` with every occurrence of `pair`, from the left, made one."""
    out, i = [], 0
    while i < len(symbols):
        if symbols[i : i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def learn(texts, merges_max):
    """The merges that shorten `texts` most, most frequent first (ties by spelling), until each word is one token."""
    table = byte_letters()
    counts = Counter(word for text in texts for word in WORD.findall(text))
    words = {letters(word, table): n for word, n in sorted(counts.items())}
    merges = []
    while len(merges) < merges_max:
        pairs = Counter()
        for symbols, n in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {join(symbols, best): n for symbols, n in words.items()}
    return merges


class Tokenizer:
    """Encodes clean lower-case text; the references add Unicode clean-up, which such text does not need."""

    def __init__(self, merges):
        self.table = byte_letters()
        self.rank = {pair: i for i, pair in enumerate(merges)}
        base = list(self.table.values())
        names = base + [b + "</w>" for b in base] + [a + b for a, b in merges] + [START, END]
        self.ids = {name: i for i, name in enumerate(names)}
        self.start, self.end = self.ids[START], self.ids[END]

    def word(self, word):
        symbols = letters(word, self.table)
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            symbols = join(symbols, best)
        return [self.ids[s] for s in symbols]

    def encode(self, text):
        return [self.start, *(i for w in WORD.findall(text.lower()) for i in self.word(w)), self.end]

    def save(self, folder, context):
        """The files of a Hugging Face CLIPTokenizer."""
        folder = Path(folder)
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in self.rank)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "vocab.json").write_text(json.dumps(self.ids, ensure_ascii=False), encoding="utf-8")
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": context,
            "do_lower_case": True,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        special = {k: config[k] for k in ("bos_token", "eos_token", "unk_token", "pad_token")}
        (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
