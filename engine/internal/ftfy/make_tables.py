"""Writes tables.go: the character tables and the badness heuristic of ftfy 6.3.1.

    pip install ftfy==6.3.1; python3.11 make_tables.py

Run it in this folder. ftfy's regular expressions are compiled to lists of character classes, since the Go code looks
for them with a bit-parallel search and not with a regexp engine.
"""

import html.entities
import importlib.metadata
import re
import textwrap
import unicodedata
from re import _parser as parser  # the re module's own reading of its expressions

from ftfy import badness, chardata, fixes

assert importlib.metadata.version("ftfy") == "6.3.1"
assert unicodedata.unidata_version == "14.0.0"
MAX = 0x10FFFF


def runs(pairs):
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in pairs)


def merged(pairs):
    found = []
    for a, b in sorted(pairs):
        if found and a <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], b)
        else:
            found.append([a, b])
    return [tuple(pair) for pair in found]


def members(code_points):
    return runs(merged((c, c) for c in code_points))


def character_class(op, argument):
    """Ranges of one element of a parsed expression, or one of the words `word` and `space`; `not` before what a
    class leaves out."""
    name = str(op)
    if name == "LITERAL":
        return runs([(argument, argument)])
    if name == "ANY":  # all but a line feed
        return "not a"
    if name == "NOT_LITERAL":
        raise AssertionError("unexpected")
    assert name == "IN", name
    pairs, negate = [], False
    for kind, value in argument:
        if str(kind) == "NEGATE":
            negate = True
        elif str(kind) == "LITERAL":
            pairs.append((value, value))
        elif str(kind) == "RANGE":
            pairs.append(value)
        else:
            assert str(kind) == "CATEGORY" and len(argument) == 1
            return {"CATEGORY_WORD": "word", "CATEGORY_SPACE": "space"}[str(value)]
    pairs = merged(pairs)
    return ("not " if negate else "") + runs(pairs)


def expand(items):
    """All sequences of classes that a parsed expression stands for; `^` becomes the word `start`."""
    sequences = [[]]
    for op, argument in items:
        name = str(op)
        if name == "BRANCH":
            choices = [s for branch in argument[1] for s in expand(branch)]
        elif name == "SUBPATTERN":
            choices = expand(argument[3])
        elif name == "MAX_REPEAT":
            low, high, what = argument
            assert (low, high) == (0, 1)
            choices = [[], *expand(what)]
        elif name == "AT":
            assert str(argument) == "AT_BEGINNING"
            choices = [["start"]]
        else:
            choices = [[character_class(op, argument)]]
        sequences = [s + c for s in sequences for c in choices]
    return sequences


def constant(name, comment, text):
    lines = textwrap.wrap(text, 112, break_long_words=False, break_on_hyphens=False)
    body = " +\n\t".join('"' + line + (' "' if i + 1 < len(lines) else '"') for i, line in enumerate(lines))
    return f"// {comment}\nconst {name} = {body}\n"


def badness_source():
    """The heuristic's patterns: numbered classes, and sequences of their numbers."""
    classes, patterns = {}, []
    for sequence in expand(parser.parse(badness.BADNESS_RE.pattern, re.VERBOSE)):
        patterns.append(".".join(str(classes.setdefault(c, len(classes))) for c in sequence))
    patterns = list(dict.fromkeys(patterns))
    listed = "\n".join('\t"' + '" +\n\t\t"'.join(textwrap.wrap(c, 108, drop_whitespace=False, break_on_hyphens=False)) + '",' for c in classes)
    chosen = "\n".join("\t" + line for line in textwrap.wrap(", ".join(f'"{p}"' for p in patterns) + ",", 112))
    return (f"// badClasses are the character classes of badPatterns.\nvar badClasses = []string{{\n{listed}\n}}\n\n"
            f"// badPatterns are the sequences of classes that reveal mojibake, as indexes into badClasses.\n"
            f"var badPatterns = []string{{\n{chosen}\n}}\n")


def clues():
    pairs = []
    for name, go in (("utf8_first_of_2", "firstOf2"), ("utf8_first_of_3", "firstOf3"), ("utf8_first_of_4", "firstOf4"),
                     ("utf8_continuation", "continuation"), ("utf8_continuation_strict", "continuationStrict")):
        parsed = parser.parse("[" + chardata.UTF8_CLUES[name] + "]")
        pairs.append(constant(go, f"{go}: UTF8_CLUES[\"{name}\"].", character_class(*parsed[0])))
    return pairs


def replacements():
    """What fix_latin_ligatures, fix_character_width and uncurl_quotes, one after the other, make of a character."""
    found = []
    for c in range(MAX + 1):
        if 0xD800 <= c <= 0xDFFF:
            continue
        text = fixes.uncurl_quotes(fixes.fix_character_width(fixes.fix_latin_ligatures(chr(c))))
        if text != chr(c):
            found.append(f"{c:x}=" + ",".join(f"{ord(t):x}" for t in text))
    return " ".join(found)


def in_order(text):
    """Code points in their order, consecutive ones as a range."""
    found = []
    for c in map(ord, text):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return runs(found)


def encodings():
    lines = []
    for name in chardata.CHARMAP_ENCODINGS:
        upper = bytes(range(0x80, 0x100)).decode(name)
        assert len(upper) == 128 and len(set(upper)) == 128
        substitute = b"\x1a".decode(name)
        assert (substitute == "\ufffd") == name.startswith("sloppy")
        listed = '" +\n\t\t"'.join(textwrap.wrap(in_order(upper), 108, drop_whitespace=False, break_on_hyphens=False))
        lines.append(f'\t{{"{name}", "{listed}"}},')
    return ("// charmapList has the single-byte encodings to try, in this order, and what bytes 0x80 to 0xff are in each. The\n"
            "// sloppy ones, and they alone, have U+FFFD for byte 0x1a.\nvar charmapList = [][2]string{\n" + "\n".join(lines) + "\n}\n")


def upper_entities():
    extra = {k: v for k, v in chardata.HTML_ENTITIES.items() if k[1:] not in html.entities.html5}
    return " ".join(k[1:] + "=" + ",".join(f"{ord(c):x}" for c in v) for k, v in sorted(extra.items()))


def main():
    parts = [
        "// Code generated by make_tables.py from ftfy 6.3.1 (Apache-2.0, see doc.go); DO NOT EDIT.\n\npackage ftfy\n",
        badness_source(), *clues(), encodings(),
        constant("replacementList", "replacementList: characters that ligature, width and quote fixes replace, and by what.", replacements()),
        constant("upperEntityList", "upperEntityList: HTML entities in capitals that ftfy knows and HTML does not.", upper_entities()),
        constant("controlRunes", "controlRunes: characters that remove_control_chars drops.", members(chardata.CONTROL_CHARS)),
    ]
    with open("tables.go", "w", encoding="utf-8") as out:
        out.write("\n".join(parts))


if __name__ == "__main__":
    main()
