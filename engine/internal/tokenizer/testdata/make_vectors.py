"""Writes the test vectors of three packages: what the Python references make of made-up hard strings.

    pip install open_clip_torch==3.3.* transformers==4.57.* tokenizers==0.22.* ftfy==6.3.1 regex
    python3.11 make_vectors.py --bert bert-base-uncased-vocab.txt [--seed N] [--count N] [--out FOLDER]

OUT (by default the folder of the packages, ../..) gets, one JSON object a line:

    tokenizer/testdata/vectors.jsonl   text; clip, openai, clip-hf (77 ids), bert, blip-caption (35 ids): ids
    ftfy/testdata/vectors.jsonl        text; fixed
    pytext/testdata/vectors.jsonl      text; unescaped, clean (words apart by one space, lower case), nfc

With another seed and a greater count it is a differential test: give the tests the folder in TIA2_VECTORS.
"""

import argparse
import html
import html.entities
import json
import os
import random
import re
import tempfile
import unicodedata
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import ftfy
import ftfy.bad_codecs  # noqa: F401  (registers the sloppy codecs)
import regex
from ftfy import chardata
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from transformers import BertTokenizerFast, CLIPTokenizerFast

WORDS = """naïve cafe\u0301 Ångström façade jalapeño Łódź Žluťoučký Tiếng Þórr Œuvre straße GROẞ İstanbul ıssız ΟΔΥΣΣΕΥΣ Σίσυφος άνθρωπος Привет ЁЛКА
საქართველო Հայաստան שָׁלוֹם مرحبا فارسی‌زبان नमस्ते क्षत्रिय ภาษาไทย မြန်မာ 한국어 \u1112\u1161\u11ab 日本語 カタカナ ｶﾞｷﾞ が か\u3099 𠮷野家 ㍿ Ⅷ ①② x² ½ ٣٤٥ १२३ 𝒜𝓫 ＦＵＬＬ　ｗ ﬁne oﬃce
ǅ ŉ ſtreet ᏣᎳᎩ 𐐀𐐁 አማርኛ ᠮᠣᠩ O’Brien don‘t “quoted” „Zitat“ «guil» em—dash soft\u00adhyphen a…b № €100 £5 ™ °C µm × 😀 👩‍👩‍👧 👍🏽 🏳️‍🌈 1️⃣ ❤️ à à\u00a0la voilà É""".split()
PIECES = ["it's", "I'VE", "'ſ", "'S'T", "rock'n'roll", "<b>", "a_b", "...", "#tag!", "\x00", "\x07", "\t", "\n", "\r\n", "\x0b", "\x85", "\xa0", "\u3000", "\u2028", "\x1c",
          "\x1b[31m", "\x1b[", "\x1b[٣;m", "\x7f", "\ufeff", "\u200b", "\u200d", "\ufffd", "\ufdd0", "\uffff", "\U0010ffff", "\ue000", "\u0378", "\u0345", "\u0301",
          "<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "<start_of_text>", "<END_OF_TEXT>", "<ſtart_of_text>", "<|ſtartoftext|>", "[CLS]", "[SEP]", "[mask]",
          "[MASK]", "[SEP", "##ing", "</w>", "<", "&amp;", "&AMP;amp;", "&NTILDE;", "&notit;", "&#8217;s", "&#x80", "&#xD800;", "&#1114112;", "&hellip", "x" * 101, "é" * 101]
CODECS = ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253", "sloppy-windows-1254",
          "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437"]
NAMES = sorted(html.entities.html5)
UPPER = sorted(set("".join(bytes(range(128, 256)).decode(e) for e in CODECS)) | {"\x1a", "\ufffd"})
MARKS = ["\u0345", "\u0323", "\u0334", "\u3099", "\u05b0", "\u0f71", "\u0f72", "\u302e", "\U0001d165", "\u09be", "\u0dcf", "\u1ac0", "\u0898"]


def mojibake(rng):
    """Words read in the wrong encoding, perhaps twice, perhaps damaged after that."""
    text = " ".join(rng.sample(WORDS, rng.randint(1, 3)))
    for _ in range(rng.choice((1, 1, 2))):
        try:
            text = text.encode("utf-8").decode(rng.choice(CODECS))
        except UnicodeDecodeError:
            break
    letters = list(text.replace("\xa0", " ") if rng.random() < 0.3 else text)
    for _ in range(rng.choice((0, 0, 1, 2))):
        letters[rng.randrange(len(letters))] = rng.choice(["\ufffd", "?", " ", "\x1a", "", rng.choice(UPPER)])
    return "".join(letters) + rng.choice(["", "", "\n", " tail", "\r\nnext", "É"])


def surrogates(rng):
    """CESU-8 and Java's UTF-8, whole and cut off, read in the wrong encoding."""
    raw = b"".join(c.encode("utf-16-be").hex().encode() for c in rng.sample("😀👍🏳a", 2))
    units = [int(raw[i:i + 4], 16) for i in range(0, len(raw), 4)]
    raw = bytearray(b"".join(chr(u).encode("utf-8", "surrogatepass") for u in units))
    if rng.random() < 0.5:
        raw[rng.randrange(len(raw))] = rng.choice([0x3F, 0x1A, 0xC0, 0x80, 0xED, 0x0A, 0x20])
    raw = bytes(raw[:rng.randint(1, len(raw))]) + rng.choice([b"", b"\n", b"\xc0\n", b"\xc0\x80", b"x"])
    return raw.decode(rng.choice(CODECS))


def entities(rng):
    text = ""
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(NAMES)
        code = rng.choice([rng.randint(0, 0xFF), rng.randint(0, 0x2FFF), rng.randint(0, 0x12FFFF)])
        body = rng.choice([name, name.upper(), name.rstrip(";"), name[:rng.randint(1, len(name))], f"#{code}", f"#x{code:x}", f"#X{code:X}", f"#{code:012}"])
        text += rng.choice(["&", "&", "&amp;", "& "]) + body + rng.choice(["", ";", " ", "x"])
    return text


def code_point(rng, high):
    while True:
        c = rng.randint(0, high)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def made_up(rng):
    kind = rng.randrange(9)
    if kind < 3:
        return (mojibake, surrogates, entities)[kind](rng)
    if kind == 3:
        return "".join(rng.choice(UPPER) if rng.random() < 0.8 else rng.choice("ab ?\nz") for _ in range(rng.randint(1, 12)))
    if kind == 4:
        return "".join(code_point(rng, 0x10FFFF if rng.random() < 0.2 else 0x3000) for _ in range(rng.randint(1, 16)))
    if kind == 5:  # the final sigma, and other letters with rules of their own
        return "".join(rng.choice("aAσΣςİıſK'’ʼ\u0345\u0301\u0307\u00ad.ͅ:· ") for _ in range(rng.randint(1, 12)))
    if kind == 6:  # stacked marks, more than 30 too
        return "".join(rng.choice("aeoqzкΑが") + "".join(chr(rng.randint(0x300, 0x36F)) if rng.random() < 0.6 else rng.choice(MARKS)
                                                          for _ in range(rng.choice([0, 1, 2, 3, 33]))) for _ in range(rng.randint(1, 4)))
    if kind == 7:  # pieces that ftfy has rules for
        return "".join(rng.choice(["à", "Ã", "Â", " ", "a", "é", "Ã quele", "Ã s ", "â€™", "™", "œ", "ГўВЂВ", "Ð", "°", "\x85", "\x93"]) for _ in range(rng.randint(1, 9)))
    case = rng.choice([str, str.upper, str.lower, str.title])
    return rng.choice(["", " "]).join(case(rng.choice(WORDS)) if rng.random() < 0.5 else rng.choice(PIECES) for _ in range(rng.randint(1, 6)))


def blip_caption(text, max_words=50):
    """LAVIS lavis/processors/blip_processors.py, BlipCaptionProcessor.pre_caption, prompt ''."""
    text = re.sub(r"([.!\"()*#:;~])", " ", text.lower())
    text = re.sub(r"\s{2,}", " ", text)
    text = text.rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else text


def openai_tokenizer():
    """openai/CLIP's SimpleTokenizer: open_clip's with other specials and another function for spaces."""
    found = SimpleTokenizer()
    specials = ("<|startoftext|>", "<|endoftext|>")
    found.cache = {s: s for s in specials}
    found.encoder.update(zip(specials, (found.sot_token_id, found.eot_token_id)))
    found.pat = regex.compile("|".join(map(re.escape, specials)) + r"""|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE)
    found.clean_fn = lambda text: regex.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text))).strip()).strip().lower()
    return found


def hf_tokenizer(folder):
    import gzip
    merges = gzip.open(default_bpe()).read().decode("utf-8").split("\n")[1:49152 - 256 - 2 + 1]
    vocab = {k.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): v for k, v in SimpleTokenizer().encoder.items()}
    Path(folder, "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    Path(folder, "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return CLIPTokenizerFast(vocab_file=f"{folder}/vocab.json", merges_file=f"{folder}/merges.txt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=420)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2])
    args = parser.parse_args()
    rng = random.Random(args.seed)
    python = {"clip": SimpleTokenizer(), "openai": openai_tokenizer()}
    bert = BertTokenizerFast(vocab_file=args.bert, do_lower_case=True)
    with tempfile.TemporaryDirectory() as folder:
        hf = hf_tokenizer(folder)
    texts = dict.fromkeys(PIECES + ["", " ", " ".join(["word"] * 80), "a b " * 26])
    while len(texts) < args.count:
        texts.setdefault(made_up(rng))
    lines = {"tokenizer": [], "ftfy": [], "pytext": []}
    for text in texts:
        ids = {}
        for name, tokenizer in python.items():
            length = min(len(tokenizer.encode(text)) + 2, 77)
            ids[name] = tokenizer([text])[0].tolist()[:length]
        ids["clip-hf"] = hf(text, truncation=True, max_length=77)["input_ids"]
        ids["bert"] = bert(text, truncation=True, max_length=35)["input_ids"]
        ids["blip-caption"] = bert(blip_caption(text), truncation=True, max_length=35)["input_ids"]
        lines["tokenizer"].append({"text": text, **ids})
        lines["ftfy"].append({"text": text, "fixed": ftfy.fix_text(text)})
        lines["pytext"].append({"text": text, "unescaped": html.unescape(text), "clean": " ".join(text.split()).lower(), "nfc": unicodedata.normalize("NFC", text)})
    for package, rows in lines.items():
        path = args.out / package / "testdata" / "vectors.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
