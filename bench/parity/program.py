"""The tia2-engine program."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOG_TAIL = 600  # bytes of what a process printed that an error shows


class ParityError(Exception):
    """A reference or tia2-engine failed."""


def run(command: list[str], folder: Path) -> None:
    """Runs a command in a folder; what it printed is told if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise ParityError(f"{shlex.join(command[:3])}: {(done.stderr or done.stdout).strip()[-LOG_TAIL:]}")


@dataclass(frozen=True)
class Program:
    """tia2-engine with its inputs; conversions and results go to a folder."""

    path: Path
    inputs: Path
    work: Path
    threads: int

    def arrays(self, command: str, models: list[Path], dtype: str, flags: list[str]) -> dict[str, np.ndarray]:
        """Returns what embed or score writes about all pictures and texts."""
        out = self.work / "found.npz"
        specs = [part for model in models for part in ("--model", str(model))]
        where = ["--backend", "cpu", "--threads", str(self.threads), "--cache", str(self.work), "--embeddings-cache", "off"]
        what = ["--images", str(self.inputs / "pictures"), "--texts", str(self.inputs / "texts.txt"), "--out", str(out)]
        run([str(self.path), command, *specs, "--dtype", dtype, *where, *flags, *what], self.work)
        with np.load(out) as arrays:
            return dict(arrays)
