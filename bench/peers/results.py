"""The file of results: cells are added as they finish, and a run that ended early goes on where it was."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import Cell

CELL_KEYS = ("model", "tower", "dtype", "batch", "threads")
ACCURACY_KEYS = ("model", "tower", "dtype")


class Results:
    """The results in a folder: peers.json, and peers.md made from it."""

    def __init__(self, folder: Path) -> None:
        self.json_path = folder / "peers.json"
        self.markdown_path = folder / "peers.md"
        self.data: dict[str, Any] = {"machine": {}, "versions": {}, "cells": [], "accuracy": []}
        if self.json_path.exists():
            try:
                self.data = json.loads(self.json_path.read_text("utf-8"))
            except ValueError as err:
                raise SystemExit(f"peers: {self.json_path}: no JSON: {err}") from err
            missing = [key for key in ("machine", "versions", "cells", "accuracy") if key not in self.data]
            if missing:
                raise SystemExit(f"peers: {self.json_path}: no {missing[0]!r}: not a file of results")

    def describe(self, machine: dict[str, Any], versions: dict[str, str]) -> None:
        """Says what the coming cells are measured on. Cells of another machine or of other versions are not mixed in."""
        for name, now in (("machine", machine), ("versions", versions)):
            before = self.data[name]
            if self.data["cells"] and before != now:
                changed = ", ".join(
                    f"{k} {before.get(k)}, now {now.get(k)}" for k in {**before, **now} if before.get(k) != now.get(k)
                )
                raise SystemExit(
                    f"peers: {self.json_path} was measured with another {name} ({changed}): name another folder with --out"
                )
            self.data[name] = now

    def cell(self, cell: Cell) -> dict[str, Any] | None:
        """Returns the result of a cell, None where there is none."""
        return find(self.data["cells"], asdict(cell))

    def accuracy(self, model: str, tower: str, dtype: str) -> dict[str, Any] | None:
        """Returns the cosines of a model's tower, None where there are none."""
        return find(self.data["accuracy"], {"model": model, "tower": tower, "dtype": dtype})

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        """Puts an entry among the "cells" or the "accuracy", in the place of an older one."""
        keys = CELL_KEYS if kind == "cells" else ACCURACY_KEYS
        old = find(self.data[kind], {k: entry[k] for k in keys})
        self.data[kind] = [e for e in self.data[kind] if e is not old] + [entry]

    def save(self, markdown: str) -> None:
        """Writes both files, each whole or not at all."""
        self.json_path.parent.mkdir(parents=True, exist_ok=True)
        for path, text in ((self.json_path, json.dumps(self.data, indent=1) + "\n"), (self.markdown_path, markdown)):
            part = path.with_name(path.name + ".part")
            part.write_text(text, "utf-8")
            os.replace(part, path)


def find(entries: list[dict[str, Any]], key: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the entry that has all values of key."""
    return next((e for e in entries if all(e[k] == v for k, v in key.items())), None)
