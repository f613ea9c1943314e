"""Writes tables.go: what the reference tokenizers take for a letter, a number, a space, ....

    pip install regex==2026.5.9 tokenizers==0.22.2; python3.11 make_tables.py

Run it in this folder. Every code point is put through the reference's own functions, since each of them has Unicode
tables of another version.
"""

import textwrap
import unicodedata

import regex
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def runs(members):
    found = []
    for c in sorted(members):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found)


def constant(name, comment, text):
    lines = textwrap.wrap(text, 112, break_long_words=False, break_on_hyphens=False)
    body = " +\n\t".join('"' + line + (' "' if i + 1 < len(lines) else '"') for i, line in enumerate(lines))
    return f"// {comment}\nconst {name} = {body}\n"


def python_class(pattern):
    """Code points that a class matches as open_clip uses it, IGNORECASE and all."""
    compiled = regex.compile(pattern, regex.IGNORECASE)
    return {c for c in CODE_POINTS if compiled.match(chr(c))}


def rust_class(pattern):
    """The same for the engine behind the tokenizers library."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return {c for c in CODE_POINTS if split.pre_tokenize_str(chr(c))}


def unknown_to_rust():
    """Code points without properties in the normal forms of the tokenizers library, though Python's has them."""
    form = normalizers.NFD()
    found = {c for c in CODE_POINTS if unicodedata.category(chr(c)) == "Cn"}
    for c in CODE_POINTS:
        probes = [chr(c)] + [text for m in "\u0334\u0301\u0345\u0315" for text in ("x" + chr(c) + m, "x" + m + chr(c))]
        if any(form.normalize_str(p) != unicodedata.normalize("NFD", p) for p in probes):
            found.add(c)
    for c in set(found):  # and the parts that they alone are made of
        found |= {ord(p) for p in unicodedata.normalize("NFD", chr(c))}
    return found


def bert():
    """(dropped, spaces, ideographs, marks, separators, punctuation) of BertNormalizer and BertPreTokenizer."""
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    clean, chinese, strip = (normalizers.BertNormalizer(**{**off, key: True}) for key in ("clean_text", "handle_chinese_chars", "strip_accents"))
    sets = [set() for _ in range(6)]
    words = pre_tokenizers.BertPreTokenizer()
    for c in CODE_POINTS:
        text = "a" + chr(c) + "b"
        cleaned = clean.normalize_str(text)
        sets[0 if cleaned == "ab" else 1].add(c) if cleaned != text else None
        if chinese.normalize_str(text) != text:
            sets[2].add(c)
        if strip.normalize_str(text) == "ab":
            sets[3].add(c)
        pieces = [piece for piece, _ in words.pre_tokenize_str(text)]
        if len(pieces) > 1:
            sets[4 if len(pieces) == 2 else 5].add(c)
    sets[1].add(0x20)
    return sets


def lower_beyond_python():
    """`first-last/1+delta` of code points that Rust makes lower and Python 3.11 does not."""
    lower, groups = normalizers.Lowercase(), []
    for c in CODE_POINTS:
        rust, python = lower.normalize_str(chr(c)), chr(c).lower()
        if rust == python:
            continue
        assert python == chr(c) and len(rust) == 1
        delta = ord(rust) - c
        if groups and groups[-1][1] == c - 1 and groups[-1][2] == delta:
            groups[-1][1] = c
        else:
            groups.append([c, c, delta])
    return " ".join(f"{a:x}-{b:x}/1{'-' if d < 0 else '+'}{abs(d):x}" for a, b, d in groups)


def main():
    letters, numbers, spaces = python_class(r"[\p{L}]"), python_class(r"[\p{N}]"), python_class(r"\s")
    others = python_class(r"[^\s\p{L}\p{N}]")
    hf_letters, hf_numbers = rust_class(r"\p{L}"), rust_class(r"\p{N}")
    assert spaces == rust_class(r"\s") and hf_letters <= letters and hf_numbers <= numbers
    assert rust_class(r"[^\s\p{L}\p{N}]") == set(CODE_POINTS) - hf_letters - hf_numbers - spaces
    dropped, bert_spaces, ideographs, marks, separators, punctuation = bert()
    lists = [
        ("hfLetters", r"hfLetters: \p{L} of the tokenizers library.", hf_letters),
        ("hfNumbers", r"hfNumbers: \p{N} of the tokenizers library.", hf_numbers),
        ("newerLetters", r"newerLetters: further members of \p{L} in Python's regex module.", letters - hf_letters),
        ("newerNumbers", r"newerNumbers: further members of \p{N} in Python's regex module.", numbers - hf_numbers),
        ("spaceRunes", r"spaceRunes: \s of both.", spaces),
        ("nowhereRunes", r"nowhereRunes: what neither \p{L}, \p{N}, \s nor [^\s\p{L}\p{N}] matches in the regex module, with IGNORECASE.",
         set(CODE_POINTS) - letters - numbers - spaces - others),
        ("hfInert", "hfInert: characters without properties in the normal forms of the tokenizers library.", unknown_to_rust()),
        ("bertDropped", "bertDropped: characters that BERT's text cleaning drops.", dropped),
        ("bertSpaces", "bertSpaces: characters that BERT's text cleaning makes a space.", bert_spaces),
        ("bertIdeographs", "bertIdeographs: characters that BERT puts spaces around.", ideographs),
        ("bertMarks", "bertMarks: characters that BERT's accent stripping drops, alone.", marks),
        ("bertSeparators", "bertSeparators: characters that end a word of BERT and are none.", separators),
        ("bertPunctuation", "bertPunctuation: characters that are words of their own to BERT.", punctuation),
    ]
    parts = ["// Code generated by make_tables.py from regex 2026.5.9 and tokenizers 0.22.2; DO NOT EDIT.\n\npackage tokenizer\n"]
    parts += [constant(name, comment, runs(members)) for name, comment, members in lists]
    parts.append(constant("newerLower", "newerLower: capital letters newer than Unicode 14, as first-last/step+delta.", lower_beyond_python()))
    with open("tables.go", "w", encoding="utf-8") as out:
        out.write("\n".join(parts))


if __name__ == "__main__":
    main()
