"""What takes part in a comparison: a peer in a process of its own, and tia2-engine. Both are used the same way."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from cells import OURS, Cell

HERE = Path(__file__).parent
LOG_TAIL = 400  # bytes of what a process printed that an error shows


class ContenderError(Exception):
    """A contender failed; the others may go on."""


@dataclass(frozen=True)
class Turn:
    """What one turn measured."""

    items_per_s: float
    calls: int


class Contender(Protocol):
    """One side of a comparison."""

    name: str
    told: dict[str, Any]  # versions and settings

    def turn(self, seconds: float) -> Turn:
        """Warms up and measures for about so long, or three calls, whichever is longer."""

    def close(self) -> None:
        """Ends its process; another turn starts it again."""

    def memory_bytes(self) -> int:
        """Returns what its process holds between turns."""


def peer_environment(work: Path, threads: int) -> dict[str, str]:
    """Returns the environment of the peers' processes: so many threads, no network, files below the work folder."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "HF_HUB_OFFLINE": "1",
        "CI": "true",  # by which OpenVINO and nncf know that nobody agreed to be counted
    }


def make_model(work: Path, model: str, form: str, texts: Path, out: Path | None = None) -> Path:
    """Has models.py make a form of a model if it is not there, and returns its folder; "tokens" has none, but writes out."""
    folder = work / model / form
    if folder.exists():
        return folder
    print(f"peers: making {form} of {model}", file=sys.stderr)
    request = {"work": str(work), "model": model, "form": form, "texts": str(texts), "out": str(out or "")}
    done = subprocess.run(
        [sys.executable, "models.py", json.dumps(request)],
        cwd=HERE,
        env=peer_environment(work, os.cpu_count() or 1),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ContenderError(f"{form} of {model} could not be made: {tail(done.stderr)}")
    return folder


def tail(text: str) -> str:
    """Returns the end of what a process printed, on one line."""
    return " | ".join(line.strip() for line in text[-LOG_TAIL:].splitlines() if line.strip()) or "nothing was printed"


class Peer:
    """A peer in a worker process, which starts with the first use and is kept until close."""

    def __init__(self, name: str, cell: Cell, work: Path, folder: Path, items: Path) -> None:
        self.name = name
        self.told: dict[str, Any] = {}
        self.cell = cell
        self.work = work
        self.folder = folder
        self.items = items
        self.process: subprocess.Popen[str] | None = None
        self.log = work / "logs" / f"{name}.txt"

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Has the worker answer a request, after preparing it where it must be started."""
        if self.process is None:
            self.process = self.start()
            key = {"model": self.cell.model, "tower": self.cell.tower, "dtype": self.cell.dtype, "batch": self.cell.batch}
            setup = {"peer": self.name, "folder": str(self.folder), "threads": self.cell.threads, **key}
            self.told = self.exchange(self.process, {"do": "prepare", "setup": setup, "items": str(self.items)})["told"]
        return self.exchange(self.process, request)

    def start(self) -> subprocess.Popen[str]:
        """Starts the worker, which prints into the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, "worker.py"],
                cwd=HERE,
                env=peer_environment(self.work, self.cell.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def exchange(self, process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer."""
        assert process.stdin and process.stdout  # both are pipes
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContenderError(f"{self.name}: its process ended: {tail(self.log.read_text(errors='replace'))}")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self.name}: {tail(answer['error'])}")
        return answer

    def turn(self, seconds: float) -> Turn:
        """See Contender."""
        took = self.ask({"do": "time", "seconds": seconds})["seconds"]
        return Turn(self.cell.batch / median(took), len(took))

    def embed(self, out: Path) -> np.ndarray:
        """Returns the embeddings of its items."""
        self.ask({"do": "embed", "items": str(self.items), "out": str(out)})
        return np.load(out)

    def close(self) -> None:
        """See Contender."""
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):  # of a request to a process that ended by itself
                self.process.communicate()  # which closes its stdin
            self.process = None

    def memory_bytes(self) -> int:
        """See Contender."""
        return 0 if self.process is None else resident_bytes(self.process.pid)


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process, 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Program:
    """The tia2-engine program and the model that it runs."""

    def __init__(self, path: Path, work: Path) -> None:
        self.path = path
        self.work = work

    def run(self, *args: str) -> str:
        """Runs the program and returns its stdout."""
        done = subprocess.run([str(self.path), *args], capture_output=True, text=True)
        if done.returncode != 0:
            raise ContenderError(f"{shlex.join([self.path.name, *args])}: {tail(done.stderr)}")
        return done.stdout

    def json(self, *args: str) -> dict[str, Any]:
        """Runs a command with --format json and returns its result."""
        return json.loads(self.run(*args, "--format", "json"))

    def model_flags(self, cell: Cell) -> list[str]:
        """Returns the flags that choose the cell's model, from the same checkpoint as the peers'."""
        return [
            *("--model", str(self.work / cell.model / "checkpoint"), "--cache", str(self.work / "cache")),
            *("--backend", "cpu", "--dtype", cell.dtype, "--threads", str(cell.threads)),
        ]

    def embed(self, cell: Cell, pictures: Path, texts: Path) -> np.ndarray:
        """Returns the embeddings of a folder of pictures, or of a file of texts, by the cell's tower."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "embeds.npz"
            source = ("--images", str(pictures)) if cell.tower == "image" else ("--texts", str(texts))
            self.run("embed", *self.model_flags(cell), "--embeddings-cache", "off", *source, "--out", str(out))
            with np.load(out) as arrays:
                return arrays[f"{cell.tower}_embeds"]


class Ours:
    """tia2-engine, started anew for each turn: its bench command warms up and times as the peers' workers do."""

    def __init__(self, program: Program, cell: Cell, texts: int, texts_file: Path) -> None:
        self.name = OURS
        self.told: dict[str, Any] = {}
        self.program = program
        self.cell = cell
        self.texts = texts
        self.texts_file = texts_file

    def arguments(self, seconds: float) -> list[str]:
        """Returns the command line of a turn. All texts are one call: what it shares between texts depends on the whole,
        and a single call after the warm-up is long enough."""
        flags = ["bench", *self.program.model_flags(self.cell), "--no-alignment", "--tower", self.cell.tower]
        if self.cell.tower == "text":
            whole = f"--texts {shlex.quote(str(self.texts_file))} --batches {self.texts} --max-time 1s --max-calls 1"
            return [*flags, *shlex.split(whole)]
        time = f"{seconds:g}s"
        return [*flags, "--batch", str(self.cell.batch), "--min-time", time, "--max-time", time]

    def turn(self, seconds: float) -> Turn:
        """See Contender."""
        report = self.program.json(*self.arguments(seconds))
        run = report["runs"][0]
        self.told = {
            "version": report["engine"]["version"],
            "isa": report["engine"]["isa"],
            "gflop_per_item": run["gflop_per_item"],
            "peak_fraction": run["peak_fraction"],
            "rss_peak_mb": run["rss_peak_mb"],
        }
        return Turn(run["items_per_s"], run["calls"])

    def close(self) -> None:
        """See Contender."""

    def memory_bytes(self) -> int:
        """See Contender."""
        return 0
