"""Measures tia2-engine side by side with OpenVINO, ONNX Runtime and PyTorch: same architectures, weights, types, batches.

Each tower of a model is first checked: ours in f32 must compute what PyTorch computes, or there is nothing to time. Then
come the cells, all contenders of one in turn. Each finished cell is written, and a run that was ended goes on where it
was. Use run.sh, which sets up Python.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from bench import Bench
from cells import BATCHES, DTYPES, OPEN_CLIP, PEERS, TOWERS, Cell
from contenders import ContenderError

ROOT = Path(__file__).resolve().parents[2]


def some_of(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Returns a reader of a list of some of the names; it keeps their order."""

    def read(value: str) -> list[str]:
        chosen = value.split(",")
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}: expected some of {', '.join(names)}")
        return [name for name in names if name in chosen]

    return read


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Returns a reader of a number above 0."""

    def read(value: str) -> float:
        number = kind(value)
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{value}: expected a number above 0")
        return number

    read.__name__ = kind.__name__  # for argparse's message
    return read


def cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    p = argparse.ArgumentParser(prog="bench/peers/run.sh", description=(__doc__ or "").split("\n\n")[0])
    for flag, names, what in (
        ("--models", tuple(OPEN_CLIP), "models"),
        ("--towers", TOWERS, "towers; text needs --texts"),
        ("--dtypes", DTYPES, "types of the weights"),
        ("--peers", tuple(PEERS), "peers"),
    ):
        p.add_argument(
            flag,
            type=some_of(names),
            default=list(names),
            metavar="A,B",
            help=f"{what}, some of {', '.join(names)} (default: all)",
        )
    whole, real = positive(int), positive(float)
    p.add_argument(
        "--batches",
        type=lambda v: [int(whole(n)) for n in v.split(",")],
        metavar="N,M",
        help="batches (default: by model and tower)",
    )
    p.add_argument("--rounds", type=whole, default=5, metavar="N", help="turns of each contender in a cell (default: 5)")
    p.add_argument(
        "--seconds",
        type=real,
        default=3.0,
        metavar="S",
        help="time of a turn after its warm-up; at least three calls (default: 3)",
    )
    p.add_argument(
        "--threads",
        type=whole,
        default=cpus(),
        metavar="N",
        help="threads of every contender (default: one for each CPU, %(default)s)",
    )
    p.add_argument(
        "--texts", type=Path, metavar="PATH", help="a file with one text a line, or a folder laid out as the TIA2 release"
    )
    p.add_argument(
        "--sample",
        type=whole,
        default=512,
        metavar="N",
        help="texts that the peers go through; padded, all cost the same (default: 512)",
    )
    p.add_argument(
        "--engine",
        type=Path,
        default=ROOT / "bin" / "tia2-engine",
        metavar="FILE",
        help="the program (default: bin/tia2-engine)",
    )
    p.add_argument(
        "--work", type=Path, default=ROOT / ".peers", metavar="DIR", help="for models, which are kept (default: .peers)"
    )
    p.add_argument(
        "--out",
        type=Path,
        default=ROOT / "bench" / "results",
        metavar="DIR",
        help="for peers.json and peers.md (default: bench/results)",
    )
    p.add_argument("--again", action="store_true", help="measure cells that are there already anew")
    p.add_argument("--list", action="store_true", help="only list the cells")
    args = p.parse_args(argv)
    if "text" in args.towers and args.texts is None:
        if args.towers == ["text"]:
            p.error("--towers text: --texts PATH is missing")
        args.towers.remove("text")
    if not args.engine.is_file():
        p.error(f"--engine {args.engine}: no such file: run make first")
    return args


def matrix(args: argparse.Namespace) -> list[Cell]:
    """Returns the cells that the arguments choose."""
    return [
        Cell(model, tower, dtype, batch, args.threads)
        for model in args.models
        for tower in args.towers
        for dtype in args.dtypes
        for batch in (args.batches or BATCHES[model, tower])
    ]


def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    args = parse(argv)
    cells = matrix(args)
    if args.list:
        print("\n".join(str(cell) for cell in cells))
        return 0
    try:
        Bench(args, shlex.join(["bench/peers/run.sh", *argv])).run(cells)
    except ContenderError as err:
        print(f"peers: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("peers: interrupted: the same command goes on with the cell that was being measured", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
