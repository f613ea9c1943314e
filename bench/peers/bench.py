"""One run over some cells: inputs and models are made, embeddings compared, contenders timed, results written."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import inputs
import table
from cells import ONNX_RUNTIME, OPENVINO, OURS, PEERS, PYTORCH, Cell, form_of
from contenders import Contender, ContenderError, Ours, Peer, Program, make_model
from measure import cosines, in_turn
from results import Results

PACKAGES = ("openvino", "nncf", "onnxruntime", "torch", "open_clip_torch")

# The peers whose embeddings are compared. Their other modes compute the same.
COMPARED = (OPENVINO[0], ONNX_RUNTIME, PYTORCH[0])
COMPARED_PICTURES = 16
COMPARED_TEXTS = 32
COMPARED_BATCH = 8
SAME_MODEL_COSINE = 0.99999
COMPARED_SEED = 1
CALIBRATION_TEXTS = 128
TIMED_SEED = 2


def say(text: str) -> None:
    """Tells the user where the run is."""
    print(f"peers: {text}", file=sys.stderr, flush=True)


def keep_program(program: Path, work: Path) -> Path:
    """Returns a copy of the program below the work folder, so that a build during the run changes nothing."""
    work.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(program, work / "tia2-engine"))


class Bench:
    """A run with the arguments of peers.py."""

    def __init__(self, args: argparse.Namespace, command: str) -> None:
        self.args = args
        self.command = command
        self.work = args.work.resolve()
        self.program = Program(keep_program(args.engine, self.work), self.work)
        self.build = hashlib.sha256(self.program.path.read_bytes()).hexdigest()[:12]
        self.results = Results(args.out)
        self.texts = inputs.read_texts(args.texts) if args.texts else []
        self.embeds: dict[tuple[str, ...], np.ndarray] = {}  # f32, of a model's tower by a contender
        self.compared: set[tuple[str, str, str]] = set()

    def run(self, cells: list[Cell]) -> None:
        """Measures the cells that are missing and writes each as it is finished."""
        self.results.describe(self.machine(), self.versions())
        for cell in cells:
            known = self.results.cell(cell)
            if known and not self.args.again:
                say(
                    f"{cell}: there already"
                    + ("" if known["program"] == self.build else ", by another build: --again measures it anew")
                )
                continue
            say(str(cell))
            for dtype in dict.fromkeys(["f32", cell.dtype]):  # nothing is timed before ours and PyTorch's agree in f32
                self.compare(cell.model, cell.tower, dtype)
            self.time(cell)
        self.save()

    def machine(self) -> dict[str, Any]:
        """Describes the machine by what stays the same from run to run."""
        m = self.program.json("bench", "--no-alignment", "--no-throughput")["machine"]
        return {"cpu": m["cpu"], "cores": m["cores"], "system": f"{m['os']}/{m['arch']}"}

    def versions(self) -> dict[str, str]:
        """Returns the versions of ours and of every peer."""
        ours = self.program.json("version")["version"]
        return {OURS: ours, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

    def save(self) -> None:
        """Writes the results as they are now."""
        self.results.save(table.markdown(self.results.data))

    # Inputs.

    def texts_file(self, name: str, texts: list[str]) -> Path:
        """Returns a file of texts below the work folder."""
        return inputs.write_texts(texts, self.work / "texts" / f"{name}.txt")

    def sample(self) -> list[str]:
        """Returns the texts that the peers go through."""
        return inputs.spread_out(self.texts, self.args.sample)

    def make(self, model: str, form: str) -> Path:
        """Has a form of a model made, and made anew where other texts were used to calibrate it."""
        folder = self.work / model / form
        calibration = self.texts_file("calibration", self.calibration())
        used = folder / calibration.name
        if used.exists() and used.read_bytes() != calibration.read_bytes():
            shutil.rmtree(folder)
        return make_model(self.work, model, form, calibration)

    def calibration(self) -> list[str]:
        """Returns texts to calibrate on, if possible none that is timed or compared."""
        taken = {*self.sample(), *inputs.spread_out(self.texts, COMPARED_TEXTS)}
        return inputs.spread_out([text for text in self.texts if text not in taken] or self.texts, CALIBRATION_TEXTS)

    def picture_size(self, model: str) -> int:
        """Returns the side of a model's pictures."""
        config = json.loads((self.make(model, "checkpoint") / "open_clip_config.json").read_text("utf-8"))
        return int(config["model_cfg"]["vision_cfg"]["image_size"])

    def items(self, model: str, tower: str, name: str, pictures: np.ndarray | None, texts: list[str]) -> Path:
        """Returns a file with what the peers compute on: pixels, or ids of texts."""
        if pictures is not None:
            path = self.work / model / f"{name}-{tower}.npy"
            np.save(path, inputs.normalised(pictures))
            return path
        path = self.work / model / f"ids-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]}.npy"
        if not path.exists():
            make_model(self.work, model, "tokens", self.texts_file("tokens", texts), path)
        return path

    # Comparisons of embeddings.

    def compare(self, model: str, tower: str, dtype: str) -> None:
        """Compares the embeddings of a type with those of f32, of every contender with its own. Those of f32 are compared
        with PyTorch's, and must be the same, or the contenders would be timed on different models."""
        known = self.results.accuracy(model, tower, dtype)
        names = [OURS, *(p for p in COMPARED if p in self.args.peers and dtype in PEERS[p])]
        done = known is not None and known["program"] == self.build and all(n in known["cosines"] for n in names)
        if (model, tower, dtype) in self.compared or (done and not self.args.again):
            return
        self.compared.add((model, tower, dtype))
        found = {}
        for name in names:
            try:
                want = self.embed(PYTORCH[0] if dtype == "f32" else name, model, tower, "f32")
                found[name] = cosines(self.embed(name, model, tower, dtype), want)
            except ContenderError as err:
                if name in (OURS, PYTORCH[0]):  # without which nothing is known to be the same model
                    raise
                say(f"not compared: {err}")
                continue
            if dtype == "f32" and not found[name].min() >= SAME_MODEL_COSINE:
                least = f"cosine {found[name].min():.7f}: expected {SAME_MODEL_COSINE} or more"
                raise ContenderError(f"{model} {tower}: {name} differs from PyTorch in f32, {least}")
        say(
            f"{model} {tower} {dtype}, least cosine with f32: "
            + ", ".join(f"{name} {c.min():.7f}" for name, c in found.items())
        )
        figures = {name: {"least": float(c.min()), "mean": float(c.mean())} for name, c in found.items()}
        if known is not None and known["program"] == self.build:
            figures = {**known["cosines"], **figures}
        entry = {
            "model": model,
            "tower": tower,
            "dtype": dtype,
            "items": len(found[OURS]),
            "program": self.build,
            "cosines": figures,
        }
        self.results.add("accuracy", entry)
        self.save()

    def embed(self, name: str, model: str, tower: str, dtype: str) -> np.ndarray:
        """Returns a contender's embeddings of the compared pictures or texts; those of f32 are kept."""
        key = (name, model, tower)
        if dtype == "f32" and key in self.embeds:
            return self.embeds[key]
        cell = Cell(model, tower, dtype, COMPARED_BATCH, self.args.threads)
        pictures = inputs.pictures(COMPARED_PICTURES, self.picture_size(model), COMPARED_SEED) if tower == "image" else None
        texts = inputs.spread_out(self.texts, COMPARED_TEXTS)
        texts = [texts[i % len(texts)] for i in range(COMPARED_TEXTS)] if texts else []
        if name == OURS:
            folder = self.work / model / "pictures"
            if pictures is not None:
                inputs.save_pictures(pictures, folder)
            result = self.program.embed(cell, folder, self.texts_file("compared", texts))
        else:
            peer = self.peer(name, cell, self.items(model, tower, "compared", pictures, texts))
            try:
                result = peer.embed(self.work / model / f"embeds-{tower}.npy")
            finally:
                peer.close()
        if dtype == "f32":
            self.embeds[key] = result
        return result

    def peer(self, name: str, cell: Cell, items: Path) -> Peer:
        """Returns a peer, its form of the model made."""
        return Peer(name, cell, self.work, self.make(cell.model, form_of(name, cell.tower, cell.dtype)), items)

    # Timings.

    def time(self, cell: Cell) -> None:
        """Times a cell and adds it to the results."""
        load = os.getloadavg()[0]
        if table.is_busy(load, cell.threads):
            say(f"the load average is {load:.1f}: something else is running, and timings are worth little")
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        pictures = inputs.pictures(cell.batch, self.picture_size(cell.model), TIMED_SEED) if cell.tower == "image" else None
        items = self.items(cell.model, cell.tower, "timed", pictures, self.sample())
        contenders: list[Contender] = [Ours(self.program, cell, len(self.texts), self.texts_file("all", self.texts))]
        unmade: dict[str, str] = {}
        for name in PEERS:
            if name in self.args.peers and cell.dtype in PEERS[name]:
                try:
                    contenders.append(self.peer(name, cell, items))
                except ContenderError as err:
                    say(str(err))
                    unmade[name] = str(err)
        figures = in_turn(contenders, self.args.rounds, self.args.seconds)
        figures["failed"] |= unmade
        entry = {**asdict(cell), "texts": len(self.texts) if cell.tower == "text" else 0, "started": started}
        entry |= {"command": self.command, "program": self.build, "load_average": load, **figures}
        self.results.add("cells", entry)
        self.save()
        for c in figures["contenders"]:
            ratio = (
                f"ours is {c['ratio']['median']:.2f} x ({c['ratio']['least']:.2f} to {c['ratio']['most']:.2f})"
                if "ratio" in c
                else ""
            )
            say(f"    {c['name']:20} {table.digits(c['items_per_s']):>7}/s  {ratio}".rstrip())
