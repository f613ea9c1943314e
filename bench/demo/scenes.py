"""Scenes of the demo: what is in them, how they are captioned and which side of the split they are on.

A meaning (what a scene shows and what a caption says) is a plain tuple:

    ("group", ((n, colour, shape),))                       n objects of one kind, nothing else
    ("group", ((n1, c1, s1), (n2, c2, s2)))                two kinds, sorted, anywhere
    ("rel", "left" | "above", (c1, s1), (c2, s2))          one object left of or above another

A caption describes the whole scene, so it is true of a scene exactly when its meaning is among `meanings(scene)`.
"""

import hashlib

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring")
NUMBERS = ("zero", "one", "two", "three", "four", "five")
COUNT_MAX = 5  # objects in a scene

# Kinds that no training scene and no training caption holds: one colour of each shape.
HELD_KINDS = frozenset((COLOURS[(3 * i + 1) % len(COLOURS)], shape) for i, shape in enumerate(SHAPES))

PICTURE_OF = ("{}", "{}", "a picture of {}", "an image of {}", "a drawing of {}")
RELATION = {
    "left": ("{a} left of {b}", "{a} to the left of {b}", "{b} right of {a}", "{b} to the right of {a}"),
    "above": ("{a} above {b}", "{a} over {b}", "{b} below {a}", "{b} under {a}"),
}


def digest(value):
    """64 bits of the SHA-256 of a value's repr: the same on every machine and Python."""
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:8], "big")


def group(*parts):
    return ("group", tuple(sorted(parts)))


def kinds(meaning):
    """The (colour, shape) pairs that a meaning names."""
    if meaning[0] == "rel":
        return [meaning[2], meaning[3]]
    return [part[1:] for part in meaning[1]]


def without_relation(meaning):
    """The objects of a meaning and how many there are."""
    if meaning[0] == "rel":
        return group((1, *meaning[2]), (1, *meaning[3]))
    return meaning


def held_out(meaning):
    """Why a meaning is kept from training: "kind", "combination", or "" when training may use it."""
    if any(kind in HELD_KINDS for kind in kinds(meaning)):
        return "kind"
    objects = without_relation(meaning)[1]
    # An eighth of the (count, kind) and of the pairs of kinds; single objects are left in, they teach the kinds.
    if len(objects) == 1:
        return "combination" if objects[0][0] > 1 and digest(("count", objects)) % 8 == 0 else ""
    return "combination" if digest(("pair", sorted(o[1:] for o in objects))) % 8 == 0 else ""


def meanings(meaning):
    """Every meaning that is true of a scene made to show `meaning`."""
    return {meaning, without_relation(meaning)}


# --- captions ---------------------------------------------------------------------------------------------------------


def noun(n, colour, shape):
    if n == 1:
        return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}"
    return f"{NUMBERS[n]} {colour} {shape}{'es' if shape[-1] == 's' else 's'}"


def caption(meaning, rng=None, frame=None):
    """One of the wordings of a meaning, the plain one without a generator; in `frame` where that is given."""
    pick = (lambda options: options[rng.integers(len(options))]) if rng is not None else (lambda options: options[0])
    if meaning[0] == "rel":
        text = pick(RELATION[meaning[1]]).format(a=noun(1, *meaning[2]), b=noun(1, *meaning[3]))
    else:
        nouns = [noun(*part) for part in meaning[1]]
        if rng is not None and rng.random() < 0.5:
            nouns.reverse()
        text = " and ".join(nouns)
    return (frame or pick(PICTURE_OF)).format(text)


# --- sampling and near misses -----------------------------------------------------------------------------------------


def choice(rng, options):
    return options[rng.integers(len(options))]


def random_kind(rng):
    return (choice(rng, COLOURS), choice(rng, SHAPES))


def random_meaning(rng):
    """A meaning drawn from all, held-out ones too."""
    a, b = random_kind(rng), random_kind(rng)
    while b == a:
        b = random_kind(rng)
    draw = rng.random()
    if draw < 0.4:
        return group((int(rng.integers(1, COUNT_MAX + 1)), *a))
    if draw < 0.75:
        return ("rel", choice(rng, ("left", "above")), a, b)
    n1 = int(rng.integers(1, 4))
    n2 = int(rng.integers(1, min(3, COUNT_MAX - n1) + 1))
    return group((n1, *a), (n2, *b))


def settle(rng, meaning):
    """Gives two single objects one of the relations, so that no caption about their relation is true by accident."""
    if meaning[0] == "group" and [part[0] for part in meaning[1]] == [1, 1]:
        a, b = kinds(meaning)
        return ("rel", choice(rng, tuple(RELATION)), *((a, b) if rng.random() < 0.5 else (b, a)))
    return meaning


def other(rng, options, not_this):
    value = choice(rng, options)
    while value == not_this:
        value = choice(rng, options)
    return value


def change_kind(rng, kind, what):
    colour, shape = kind
    if what == "colour":
        return (other(rng, COLOURS, colour), shape)
    return (colour, other(rng, SHAPES, shape))


def near_misses(rng, meaning):
    """Meanings one step from `meaning`, as {what was changed: meaning}; none is true of a scene that shows it."""
    found = {}
    if meaning[0] == "rel":
        _, rel, a, b = meaning
        found["swap"] = ("rel", rel, b, a)
        found["turn"] = ("rel", "above" if rel == "left" else "left", *((a, b) if rng.random() < 0.5 else (b, a)))
        if a[0] != b[0] and a[1] != b[1]:
            found["binding"] = ("rel", rel, (b[0], a[1]), (a[0], b[1]))
        for what in ("colour", "shape"):
            first = rng.random() < 0.5
            pair = (change_kind(rng, a, what), b) if first else (a, change_kind(rng, b, what))
            found[what] = ("rel", rel, *pair)
        return {what: m for what, m in found.items() if m[2] != m[3]}
    parts = list(meaning[1])
    i = int(rng.integers(len(parts)))
    rest = parts[:i] + parts[i + 1 :]
    n, kind = parts[i][0], parts[i][1:]
    room = COUNT_MAX - sum(p[0] for p in rest)
    counts = [c for c in (n - 1, n + 1) if 1 <= c <= (room if not rest else min(3, room))]
    if counts:
        found["count"] = group((choice(rng, counts), *kind), *rest)
    for what in ("colour", "shape"):
        found[what] = group((n, *change_kind(rng, kind, what)), *rest)
    if rest:
        (m, *kind2), kind = rest[0], list(kind)
        if kind[0] != kind2[0] and kind[1] != kind2[1]:
            found["binding"] = group((n, kind2[0], kind[1]), (m, kind[0], kind2[1]))
        if n != m:
            found["exchange"] = group((m, *kind), (n, *kind2))
        found["missing"] = group((n, *kind))
    for what, m in list(found.items()):
        named = kinds(m)
        if len(set(named)) < len(named) or m == meaning:
            del found[what]
    return found
