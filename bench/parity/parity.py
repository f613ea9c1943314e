"""Compares tia2-engine with the Python references: full-size models with random weights, every reward, every type.

For each model in turn: a process of its own makes the checkpoint and has the reference compute embeddings and rewards in
f32, then tia2-engine reads the same files in each type. One model is on the disk at a time. Use run.sh, which sets up
Python.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import catalogue
import inputs
from compare import Figures, compare, row, table
from program import ParityError, Program, run

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def say(text: str) -> None:
    """Tells the user where the run is."""
    print(f"parity: {text}", file=sys.stderr, flush=True)


class Comparison:
    """A run with the arguments of the command line; work is a folder for its files."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.inputs = work / "inputs"
        inputs.write(self.inputs)
        self.figures: list[Figures] = []
        self.failed: list[str] = []

    def run(self, entries: list[catalogue.Entry]) -> None:
        """Compares the models one after the other. One that fails does not end the run."""
        for entry in entries:
            say(f"{entry.name}: {entry.what}")
            folder = self.work / entry.name
            folder.mkdir()
            what = f"the reference of {entry.name}"
            try:
                expected = self.reference(entry, folder)
                for dtype in self.args.dtypes:
                    what = f"{entry.name} {dtype}"
                    self.compare(entry, folder, dtype, expected)
            except (ParityError, ValueError) as err:
                say(f"{what}: {err}")
                self.failed.append(what)
            shutil.rmtree(folder)

    def reference(self, entry: catalogue.Entry, folder: Path) -> dict[str, np.ndarray]:
        """Has the checkpoint made and returns what the reference computes with it."""
        checkout = getattr(self.args, entry.checkout.lower()) if entry.checkout else ""
        request = {"model": entry.name, "inputs": str(self.inputs), "out": str(folder)}
        request |= {"checkout": str(checkout), "threads": self.args.threads}
        run([sys.executable, str(HERE / "reference.py"), json.dumps(request)], HERE)
        with np.load(folder / "expected.npz") as arrays:
            return dict(arrays)

    def compare(self, entry: catalogue.Entry, folder: Path, dtype: str, expected: dict[str, np.ndarray]) -> None:
        """Compares a model in one type, and removes what it was converted to."""
        work = folder / dtype
        work.mkdir()
        program = Program(self.args.engine, self.inputs, work, self.args.threads)
        files = [folder / file for file in entry.files]
        for command, flags, names in commands(expected):
            # Embeddings are the first model's: a head over it has none.
            found = program.arrays(command, files if command == "score" else files[:1], dtype, flags)
            for name in names:
                key = " ".join([*flags, name])
                if name not in found:
                    raise ParityError(f"no array {name}: found {', '.join(found)}")
                self.figures.append(compare(entry.name, key, dtype, found[name], expected[key]))
                say("    " + "  ".join(row(self.figures[-1])[1:]))
        shutil.rmtree(work)


def commands(expected: dict[str, np.ndarray]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields the commands that give the expected arrays: embed or score, its flags, the arrays that it is asked for."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key in expected:
        *flags, name = key.split()
        groups.setdefault(("embed" if name.endswith("_embeds") else "score", *flags), []).append(name)
    for (command, *flags), names in groups.items():
        yield command, flags, names


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line; what it leaves out may stand in the environment, for make."""
    env = os.environ.get
    p = argparse.ArgumentParser(prog="bench/parity/run.sh", description=(__doc__ or "").split("\n\n")[0])
    for flag, names in (("models", [entry.name for entry in catalogue.ENTRIES]), ("dtypes", list(catalogue.DTYPES))):
        p.add_argument(
            f"--{flag}",
            type=lambda value: value.split(","),
            default=env(f"PARITY_{flag.upper()}") or None,
            metavar="A,B",
            help=f"some of {', '.join(names)} (default: all that can be had; PARITY_{flag.upper()})",
        )
    for name, where in catalogue.CHECKOUTS.items():
        p.add_argument(
            f"--{name.lower()}", type=Path, default=env(name) or None, metavar="DIR", help=f"checkout of {where} ({name})"
        )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    p.add_argument("--threads", type=int, default=cpus, metavar="N", help="threads (default: one for each CPU, %(default)s)")
    p.add_argument(
        "--engine", type=Path, default=ROOT / "bin" / "tia2-engine", metavar="FILE", help="default: bin/tia2-engine"
    )
    p.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for 12 GB of files, removed afterwards (default: in TMPDIR)"
    )
    p.add_argument("--list", action="store_true", help="only list the models")
    args = p.parse_args(argv)
    for name in catalogue.CHECKOUTS:
        folder = getattr(args, name.lower())
        if folder is None:
            continue
        setattr(args, name.lower(), folder.resolve())
        if not folder.is_dir():
            p.error(f"--{name.lower()} {folder}: no such folder: expected a checkout of {catalogue.CHECKOUTS[name]}")
    try:
        args.dtypes = some_of(catalogue.DTYPES, args.dtypes)
        args.entries = [catalogue.find(name) for name in some_of(tuple(e.name for e in catalogue.ENTRIES), args.models)]
    except ValueError as err:
        p.error(str(err))
    lacking = [entry for entry in args.entries if entry.checkout and getattr(args, entry.checkout.lower()) is None]
    if lacking and args.models and not args.list:
        p.error(f"{lacking[0].name}: --{lacking[0].checkout.lower()} DIR is missing, a checkout of its code")
    args.lacking = lacking
    if not args.engine.is_file() and not args.list:
        p.error(f"--engine {args.engine}: no such file: run make first")
    args.engine = args.engine.resolve()
    return args


def some_of(names: tuple[str, ...], chosen: list[str] | None) -> list[str]:
    """Returns the chosen names in the order of all, all where nothing is chosen."""
    unknown = [name for name in chosen or () if name not in names]
    if unknown:
        raise ValueError(f"{unknown[0]!r}: expected some of {', '.join(names)}")
    return [name for name in names if not chosen or name in chosen]


def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    args = parse(argv)
    if args.list:
        for entry in args.entries:
            print(f"{entry.name:12} {entry.what}" + (f"; needs --{entry.checkout.lower()}" if entry.checkout else ""))
        return 0
    for entry in args.lacking:
        say(f"{entry.name} is left out: --{entry.checkout.lower()} DIR ({entry.checkout}) names no checkout of its code")
    with tempfile.TemporaryDirectory(prefix="tia2-parity-", dir=args.work) as work:
        comparison = Comparison(args, Path(work))
        comparison.run([entry for entry in args.entries if entry not in args.lacking])
    print(table(comparison.figures))
    bad = [f"{f.model} {f.dtype} {f.array} differs" for f in comparison.figures if not f.agrees]
    for text in (*(f"{what} failed, see above" for what in comparison.failed), *bad):
        say(text)
    return 1 if comparison.failed or bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
