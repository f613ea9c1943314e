"""The process that holds one peer: it waits for a request, a line of JSON on stdin, and answers with one on stdout.

    {"do": "prepare", "setup": {...}, "items": FILE.npy}   {"told": {...}}
    {"do": "time", "seconds": S}                           {"seconds": [of each call]}
    {"do": "embed", "items": FILE.npy, "out": FILE.npy}    {}

A request that fails is answered with {"error": TEXT}; what the peer prints goes to stderr. Between two requests the
process waits and computes nothing, so that another has the CPU for itself. It ends with its stdin.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engines import Engine, Setup, create


class Worker:
    """Answers the requests."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what one request asks for."""
        if request["do"] == "prepare":
            setup = request["setup"]
            self.engine = create(Setup(**{**setup, "folder": Path(setup["folder"])}))
            return {"told": self.engine.prepare(np.load(request["items"]))}
        if self.engine is None:
            raise RuntimeError("prepare comes first")
        if request["do"] == "time":
            return {"seconds": self.engine.time(request["seconds"])}
        np.save(request["out"], self.engine.embed(np.load(request["items"])))
        return {}


def main() -> None:
    """Answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print what they like
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as err:  # whatever a peer raises is its answer
            answer = {"error": f"{type(err).__name__}: {err}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
