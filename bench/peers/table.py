"""The results as Markdown."""

from typing import Any

from cells import DTYPES, OPEN_CLIP, OPENVINO, OURS, PEERS, TOWERS

# How many times as fast as OpenVINO ours is to be: at larger batches than its better mode; at batch 1 than its mode for
# latency, as the other one runs several requests at once; the text tower than its better mode on padded texts.
GOALS = {"f32": 1.30, "bf16": 1.20, "int8": 1.10}
GOAL_BATCH_1 = 1.0
GOAL_TEXT = 20.0
# The least cosine with f32.
GOALS_COSINE = {"f32": 0.99999, "bf16": 0.9995, "int8": 0.995}

NOTES = """\
A peer's cell: its items a second, the median of the rounds, and in brackets how many times as fast tia2-engine was, the
median of the ratios within a round. All ran in turn on the same machine, in each round in another order, each in a process
of its own, on the same checkpoint with random weights. Batch 1 is compared with OpenVINO's latency mode, anything else with
its better mode.

OpenVINO's int8 is nncf's for transformers, calibrated on a few pictures or texts that are not timed, its other ops in
OpenVINO's default type; ONNX Runtime's int8 is dynamic; PyTorch is compiled with frozen weights.

Images are preprocessed pixels (u8 for tia2-engine, which normalises them in the time that is measured; f32 for the peers).
"""

TEXT_NOTES = """\
Texts: tia2-engine gets all {texts} at once, computes no padding, and what texts begin with in common once; the peers get
them padded to 77 tokens, as open_clip and its exports do, in batches of the given size.
"""

ACCURACY_NOTES = """\
Cosine of each embedding with the same contender's own f32, least and mean over {items} items. The weights are random as
open_clip initialises them, the same for all; real weights have outliers that quantise worse. f32 is compared with PyTorch's.
"""


def markdown(data: dict[str, Any]) -> str:
    """Returns the document: the machine, the speeds, the accuracy, and how to measure them again."""
    lines = ["# tia2-engine beside OpenVINO, ONNX Runtime and PyTorch", "", heading(data), ""]
    if data["cells"]:
        texts = max(cell["texts"] for cell in data["cells"])
        lines += [
            NOTES,
            *([TEXT_NOTES.format(texts=texts)] if texts else []),
            *speeds(data["cells"]),
            "",
            *busy(data["cells"]),
        ]
    if data["accuracy"]:
        lines += [ACCURACY_NOTES.format(items=data["accuracy"][0]["items"]), *accuracies(data["accuracy"]), ""]
    return "\n".join([*lines, *commands(data["cells"])]) + "\n"


def heading(data: dict[str, Any]) -> str:
    """Returns the machine and the versions in one paragraph."""
    machine = ", ".join(f"{value}" if key == "cpu" else f"{key} {value}" for key, value in data["machine"].items())
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return f"{machine}; {versions}."


def order(entry: dict[str, Any]) -> tuple[int, ...]:
    """Sorts entries as the matrix has them."""
    return (
        TOWERS.index(entry["tower"]),
        list(OPEN_CLIP).index(entry["model"]),
        -entry.get("batch", 0),
        DTYPES.index(entry["dtype"]),
    )


def speeds(cells: list[dict[str, Any]]) -> list[str]:
    """Returns the table of speeds, with the peers that any cell has."""
    peers = [p for p in PEERS if any(contender(c, p) or p in c["failed"] for c in cells)]
    threads = len({c["threads"] for c in cells}) > 1
    rows = []
    for cell in sorted(cells, key=order):
        ours = next(c for c in cell["contenders"] if c["name"] == OURS)
        row = [cell["tower"], cell["model"], cell["dtype"], str(cell["batch"])]
        row += [str(cell["threads"])] if threads else []
        row += [f"**{digits(ours['items_per_s'])}**", percent(ours["told"].get("peak_fraction"))]
        row += [peer_cell(cell, peer) for peer in peers]
        rows.append([*row, *verdict(cell)])
    head = [
        "tower",
        "model",
        "type",
        "batch",
        *(["threads"] if threads else []),
        OURS,
        "of peak",
        *peers,
        "x OpenVINO",
        "goal",
    ]
    return render(head, rows, 3)


def busy(cells: list[dict[str, Any]]) -> list[str]:
    """Returns a warning about cells that were measured beside other work."""
    loads = [cell["load_average"] for cell in cells if is_busy(cell["load_average"], cell["threads"])]
    if not loads:
        return []
    return [
        f"**{len(loads)} of {len(cells)} cells were measured beside other work (load average up to {max(loads):.1f}).**",
        "",
    ]


def is_busy(load_average: float, threads: int) -> bool:
    """Tells whether more runs on the machine than the contender that had its turn before."""
    return load_average > threads + 1


def contender(cell: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Returns the figures of a contender, None where it did not take part or failed."""
    return next((c for c in cell["contenders"] if c["name"] == name), None)


def peer_cell(cell: dict[str, Any], peer: str) -> str:
    """Returns a peer's speed and ratio."""
    figures = contender(cell, peer)
    if figures is None:
        return "failed" if peer in cell["failed"] else "-"
    return f"{digits(figures['items_per_s'])} ({figures['ratio']['median']:.2f} x)"


def verdict(cell: dict[str, Any]) -> list[str]:
    """Returns the ratio that counts, with its range over the rounds, and whether it reaches the goal."""
    modes = OPENVINO[:1] if cell["tower"] == "image" and cell["batch"] == 1 else OPENVINO
    figures = [f for f in (contender(cell, mode) for mode in modes) if f]
    if not figures:
        return ["-", "-"]
    ratio = min((f["ratio"] for f in figures), key=lambda r: r["median"])
    goal = GOAL_TEXT if cell["tower"] == "text" else GOAL_BATCH_1 if cell["batch"] == 1 else GOALS[cell["dtype"]]
    reached = "reached" if ratio["median"] >= goal else "missed"
    return [f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})", f"{goal:.2f} {reached}"]


def accuracies(entries: list[dict[str, Any]]) -> list[str]:
    """Returns the table of cosines."""
    names = [n for n in (OURS, *PEERS) if any(n in e["cosines"] for e in entries)]
    rows = []
    for entry in sorted(entries, key=order):
        row = [entry["tower"], entry["model"], entry["dtype"]]
        for name in names:
            figures = entry["cosines"].get(name)
            row.append(f"{figures['least']:.6f} {figures['mean']:.6f}" if figures else "-")
        goal = GOALS_COSINE[entry["dtype"]]
        reached = "reached" if entry["cosines"][OURS]["least"] >= goal else "missed"
        rows.append([*row, f"{goal} {reached}"])
    return render(["tower", "model", "type", *names, "goal"], rows, 3)


def commands(cells: list[dict[str, Any]]) -> list[str]:
    """Returns the commands that measured the cells, each with the build of tia2-engine, the days and the rounds."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        runs.setdefault((cell["command"], cell["program"]), []).append(cell)
    lines = []
    for (command, program), group in runs.items():
        days = sorted({cell["started"][:10] for cell in group})
        period = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        rounds = "/".join(str(n) for n in sorted({len(cell["contenders"][0]["rounds"]) for cell in group}))
        lines.append(f"- `{command}`: {len(group)} cells, {rounds} rounds, {period}, program sha256 {program}")
    return ["Measured by", "", *lines] if lines else []


def render(head: list[str], rows: list[list[str]], text_columns: int) -> list[str]:
    """Returns a Markdown table, padded so that it reads well as text; all but the first columns are flush right."""
    width = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    align = ["ljust" if i < text_columns else "rjust" for i in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(getattr(c, a)(w) for c, a, w in zip(cells, align, width, strict=True)) + " |"

    rule = (
        "|"
        + "|".join("-" * (w + 2) if a == "ljust" else "-" * (w + 1) + ":" for a, w in zip(align, width, strict=True))
        + "|"
    )
    return [line(head), rule, *map(line, rows)]


def digits(value: float) -> str:
    """Returns a number with three to four digits."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}" if value >= 100 else f"{value:.3g}"


def percent(fraction: float | None) -> str:
    """Returns a fraction in percent."""
    return "-" if fraction is None else f"{100 * fraction:.0f} %"
