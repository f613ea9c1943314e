"""Tests of all but the peers themselves: python3 -m unittest discover bench/peers (needs numpy and pillow only)."""

import json
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import inputs
import measure
import peers
import table
from cells import OPENVINO, OURS, PYTORCH, Cell, form_of
from contenders import ContenderError, Ours, Peer, Program, Turn
from results import Results

CELL = Cell("vit-b-32", "image", "f32", 32, 2)


class FakeContender:
    """Has the speeds of a list, one a turn; None is a failure. It notes when it ran and when it was closed."""

    def __init__(self, name: str, speeds: list[float | None], log: list[str]) -> None:
        self.name = name
        self.told = {"version": "1"}
        self.speeds = iter(speeds)
        self.log = log

    def turn(self, seconds: float) -> Turn:
        """See Contender."""
        self.log.append(f"{self.name} {seconds:g}")
        speed = next(self.speeds)
        if speed is None:
            raise ContenderError(f"{self.name} broke")
        return Turn(speed, 3)

    def close(self) -> None:
        """See Contender."""
        self.log.append(f"{self.name} closed")

    def memory_bytes(self) -> int:
        """See Contender."""
        return 1000


def in_turn(
    speeds: dict[str, list[float | None]], free: Callable[[], int | None] = lambda: None
) -> tuple[dict[str, Any], list[str]]:
    """Runs measure.in_turn with fakes and returns its result and their log."""
    log: list[str] = []
    fakes = [FakeContender(name, series, log) for name, series in speeds.items()]
    rounds = max(len(series) for series in speeds.values())
    return measure.in_turn(fakes, rounds, 2, pause=lambda _: None, free_bytes=free), log


class MeasureTest(unittest.TestCase):
    """Contenders in turn, and cosines."""

    def test_order_rotates(self) -> None:
        """Each round begins with the next contender, and all are closed at the end."""
        _, log = in_turn({OURS: [1, 1, 1], "a": [1, 1, 1]})
        self.assertEqual(log, [f"{OURS} 2", "a 2", "a 2", f"{OURS} 2", f"{OURS} 2", "a 2", f"{OURS} closed", "a closed"])

    def test_ratio_is_within_rounds(self) -> None:
        """A machine that becomes half as fast changes no ratio."""
        result, _ = in_turn({OURS: [40, 20, 10], "a": [20, 10, 4]})
        ours, a = result["contenders"]
        self.assertEqual((ours["items_per_s"], ours["rounds"], "ratio" in ours), (20, [40, 20, 10], False))
        self.assertEqual((a["items_per_s"], a["calls"], a["told"]), (10, [3, 3, 3], {"version": "1"}))
        self.assertEqual(a["ratio"], {"median": 2, "least": 2, "most": 2.5})

    def test_failing_peer_is_left_out(self) -> None:
        """It is named, its turns do not count, and it has no more of them."""
        with mock.patch("sys.stderr"):
            result, log = in_turn({OURS: [1, 1], "a": [5, None], "b": [1, 1]})
        self.assertEqual(result["failed"], {"a": "a broke"})
        self.assertEqual([c["name"] for c in result["contenders"]], [OURS, "b"])
        self.assertEqual((log.count("a 2"), log.count("b 2")), (2, 2))

    def test_ours_must_not_fail(self) -> None:
        """Without ours there is no comparison; the peers' processes end all the same."""
        log: list[str] = []
        fakes = [FakeContender(OURS, [None], log), FakeContender("a", [1], log)]
        with self.assertRaisesRegex(ContenderError, f"{OURS} broke"):
            measure.in_turn(fakes, 1, 2, pause=lambda _: None)
        self.assertIn("a closed", log)

    def test_workers_make_room(self) -> None:
        """Where memory runs short a worker ends after its turn."""
        speeds: dict[str, list[float | None]] = {OURS: [1, 1], "a": [1, 1]}
        for free, closed in ((measure.MEMORY_RESERVE_BYTES + 1001, 1), (measure.MEMORY_RESERVE_BYTES + 1000, 3), (None, 1)):
            _, log = in_turn(speeds, mock.Mock(return_value=free))
            self.assertEqual(log.count("a closed"), closed, free)

    def test_cosines(self) -> None:
        """Length does not matter, and shapes must be the same."""
        a = np.array([[1, 0], [3, 4]], np.float32)
        np.testing.assert_allclose(measure.cosines(a, np.array([[0, 2], [6, 8]], np.float32)), [0, 1])
        with self.assertRaisesRegex(ContenderError, "expected the same"):
            measure.cosines(a, a[:1])


class InputsTest(unittest.TestCase):
    """Texts and pictures."""

    def setUp(self) -> None:
        """Makes a folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_texts_of_a_release(self) -> None:
        """Prompts and their contrastive ones, sets by name, each text once."""
        (self.folder / "prompts").mkdir()
        for name, prompts in (("b", {"x": ["y"]}), ("a", {"y": ["z", "y"]})):
            (self.folder / "prompts" / f"prompt_set_{name}.json").write_text(json.dumps(prompts))
        self.assertEqual(inputs.read_texts(self.folder), ["y", "z", "x"])

    def test_texts_of_a_file(self) -> None:
        """One a line, where only a line feed ends one; what is written is read again."""
        path = self.folder / "texts.txt"
        path.write_bytes("a\r\nb\u2028b\n\na\n".encode())
        self.assertEqual(inputs.read_texts(path), ["a", "b\u2028b"])
        self.assertEqual(inputs.read_lines(inputs.write_texts(["a", "a", "b\u2028b"], path)), ["a", "a", "b\u2028b"])

    def test_texts_that_are_none(self) -> None:
        """The flag and the path are named."""
        (self.folder / "empty.txt").write_text("\n\n")
        for name in ("empty.txt", "none.txt", "."):
            with self.assertRaisesRegex(SystemExit, "peers: --texts "):
                inputs.read_texts(self.folder / name)

    def test_spread_out(self) -> None:
        """As many as asked for, from all of the list."""
        texts = [str(i) for i in range(10)]
        self.assertEqual(inputs.spread_out(texts, 3), ["0", "3", "6"])
        self.assertEqual(inputs.spread_out(texts, 20), texts)

    def test_pictures(self) -> None:
        """The same ones every time, different from each other; normalised as open_clip does it."""
        a = inputs.pictures(2, 32, 1)
        self.assertEqual((a.shape, a.dtype), ((2, 32, 32, 3), np.uint8))
        self.assertTrue((a == inputs.pictures(2, 32, 1)).all() and (a[0] != a[1]).any())
        x = inputs.normalised(a)
        self.assertEqual((x.shape, x.dtype), ((2, 3, 32, 32), np.float32))
        self.assertAlmostEqual(x[1, 2, 3, 4], (a[1, 3, 4, 2] / 255 - inputs.PIXEL_MEAN[2]) / inputs.PIXEL_STD[2], 6)


class ContendersTest(unittest.TestCase):
    """Processes."""

    def test_arguments(self) -> None:
        """Images are timed as long as the peers; texts in one call."""
        program = Program(Path("bin/tia2-engine"), Path("/w"))
        line = " ".join(Ours(program, CELL, 0, Path("/t")).arguments(2.5))
        self.assertIn("--model /w/vit-b-32/checkpoint --cache /w/cache --backend cpu --dtype f32 --threads 2", line)
        self.assertIn("--tower image --batch 32 --min-time 2.5s --max-time 2.5s", line)
        line = " ".join(Ours(program, Cell("vit-b-32", "text", "bf16", 32, 2), 7830, Path("/t")).arguments(2.5))
        self.assertIn("--tower text --texts /t --batches 7830 --max-time 1s --max-calls 1", line)

    def test_worker_answers_with_errors(self) -> None:
        """A peer that raises, and a process that ends, are errors of that peer."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            items = folder / "items.npy"
            np.save(items, np.zeros((2, 3), np.float32))
            peer = Peer("abacus", CELL, folder, folder, items)
            with self.assertRaisesRegex(ContenderError, "abacus: KeyError: 'abacus'"):
                peer.turn(0.1)
            assert peer.process
            peer.process.kill()
            peer.process.wait()
            with self.assertRaisesRegex(ContenderError, "abacus: its process ended: nothing was printed"):
                peer.turn(0.1)
            peer.close()
            self.assertEqual(peer.memory_bytes(), 0)

    def test_forms(self) -> None:
        """Modes of a peer share its form of the model."""
        self.assertEqual({form_of(p, "image", "int8") for p in OPENVINO}, {"openvino-int8-image"})
        self.assertEqual({form_of(p, "text", d) for p in PYTORCH for d in ("f32", "bf16")}, {"checkpoint"})
        self.assertEqual(form_of("onnxruntime", "text", "f32"), "onnx-text")


def entry(speed: float, ratios: dict[str, float], **cell: Any) -> dict[str, Any]:
    """Returns a cell of the results."""
    figures = [{"name": OURS, "items_per_s": speed, "rounds": [speed], "calls": [3], "told": {"peak_fraction": 0.87}}]
    for name, ratio in ratios.items():
        figures.append(
            {
                **figures[0],
                "name": name,
                "items_per_s": speed / ratio,
                "ratio": {"median": ratio, "least": ratio - 0.01, "most": ratio + 0.02},
            }
        )
    key = {"model": "vit-b-32", "tower": "image", "dtype": "f32", "batch": 32, "threads": 2, "texts": 0, **cell}
    run = {"started": "2026-01-02T03:04:05+00:00", "command": "run.sh", "program": "abc", "load_average": 2.0, "failed": {}}
    return {**key, **run, "contenders": figures}


class ResultsTest(unittest.TestCase):
    """The files of results."""

    def setUp(self) -> None:
        """Makes a folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_cells_are_kept_and_replaced(self) -> None:
        """A cell is found by what it measures, also after reading the file again."""
        results = Results(self.folder / "new")
        results.describe({"cpu": "x"}, {"torch": "1"})
        results.add("cells", entry(10, {}))
        results.add("cells", entry(20, {}, batch=1))
        results.add("cells", entry(30, {}))
        results.save("text")
        again = Results(self.folder / "new")
        again.describe({"cpu": "x"}, {"torch": "1"})
        self.assertEqual((again.cell(CELL) or {})["contenders"][0]["items_per_s"], 30)
        self.assertIsNone(again.cell(Cell("vit-b-32", "image", "bf16", 32, 2)))
        self.assertEqual(len(again.data["cells"]), 2)
        self.assertEqual(sorted(p.name for p in (self.folder / "new").iterdir()), ["peers.json", "peers.md"])

    def test_machines_are_not_mixed(self) -> None:
        """What changed is named."""
        results = Results(self.folder)
        results.describe({"cpu": "x", "cores": 2}, {})
        results.describe({"cpu": "y", "cores": 2}, {})  # no cell yet
        results.add("cells", entry(10, {}))
        with self.assertRaisesRegex(SystemExit, r"another machine \(cpu y, now x\)"):
            results.describe({"cpu": "x", "cores": 2}, {})

    def test_bad_file(self) -> None:
        """It is named and not overwritten."""
        for text, want in (("{", "no JSON"), ("{}", "no 'machine'")):
            (self.folder / "peers.json").write_text(text)
            with self.assertRaisesRegex(SystemExit, want):
                Results(self.folder)

    def test_verdicts(self) -> None:
        """The better mode of OpenVINO counts; of single images that for latency; of texts 20 times."""
        latency, throughput = OPENVINO
        for cell, want in (
            (entry(1, {latency: 1.4, throughput: 1.3}), ["1.30 (1.29 to 1.32)", "1.30 reached"]),
            (entry(1, {latency: 1.4, throughput: 1.29}), ["1.29 (1.28 to 1.31)", "1.30 missed"]),
            (entry(1, {latency: 1.15}, dtype="bf16"), ["1.15 (1.14 to 1.17)", "1.20 missed"]),
            (entry(1, {latency: 1.15, throughput: 1.2}, dtype="int8"), ["1.15 (1.14 to 1.17)", "1.10 reached"]),
            (entry(1, {latency: 1.05, throughput: 0.8}, batch=1), ["1.05 (1.04 to 1.07)", "1.00 reached"]),
            (entry(1, {latency: 25, throughput: 19}, tower="text"), ["19.00 (18.99 to 19.02)", "20.00 missed"]),
            (entry(1, {PYTORCH[0]: 2}), ["-", "-"]),
        ):
            self.assertEqual(table.verdict(cell), want)

    def test_markdown(self) -> None:
        """One row a cell, in the matrix's order, a column for every peer that took part."""
        failed = entry(9.5, {OPENVINO[0]: 1.5}, dtype="bf16")
        failed["failed"] = {"onnxruntime": "broke"}
        cosines = {OURS: {"least": 0.9994, "mean": 0.9999}, OPENVINO[0]: {"least": 0.9996, "mean": 0.9998}}
        accuracy = {
            "model": "vit-b-32",
            "tower": "image",
            "dtype": "bf16",
            "items": 16,
            "program": "abc",
            "cosines": cosines,
        }
        text = table.markdown(
            {
                "machine": {"cpu": "Test CPU", "cores": 2},
                "versions": {"torch": "1.2"},
                "cells": [failed, entry(24.51, {OPENVINO[0]: 1.25})],
                "accuracy": [accuracy],
            }
        )
        rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
        f32 = [
            "image",
            "vit-b-32",
            "f32",
            "32",
            "**24.5**",
            "87 %",
            "19.6 (1.25 x)",
            "-",
            "1.25 (1.24 to 1.27)",
            "1.30 missed",
        ]
        bf16 = [
            "image",
            "vit-b-32",
            "bf16",
            "32",
            "**9.5**",
            "87 %",
            "6.33 (1.50 x)",
            "failed",
            "1.50 (1.49 to 1.52)",
            "1.20 reached",
        ]
        self.assertEqual(rows[1:3], [f32, bf16])
        self.assertEqual(rows[4], ["image", "vit-b-32", "bf16", "0.999400 0.999900", "0.999600 0.999800", "0.9995 missed"])
        self.assertIn("Test CPU, cores 2; torch 1.2.", text)
        self.assertNotIn("padded to 77", text)
        self.assertNotIn("beside other work", text)
        self.assertIn("- `run.sh`: 2 cells, 1 rounds, 2026-01-02, program sha256 abc", text)

    def test_remarks(self) -> None:
        """Texts are explained where there are some, and a busy machine is told."""
        cells = [entry(1, {}, tower="text", texts=7830), {**entry(1, {}), "load_average": 3.5}]
        text = table.markdown({"machine": {}, "versions": {}, "cells": cells, "accuracy": []})
        self.assertIn("tia2-engine gets all 7830 at once", text)
        self.assertIn("1 of 2 cells were measured beside other work (load average up to 3.5)", text)


class CommandLineTest(unittest.TestCase):
    """Arguments."""

    def parse(self, *args: str) -> Any:
        """Parses arguments with a program that exists."""
        return peers.parse(["--engine", __file__, *args])

    def test_matrix(self) -> None:
        """All batches of all that is chosen; texts only where there are some."""
        args = self.parse("--models", "vit-l-14,vit-b-32", "--dtypes", "bf16", "--threads", "2")
        self.assertEqual(
            [str(c) for c in peers.matrix(args)][:2],
            ["vit-b-32 image bf16, batch 1, 2 threads", "vit-b-32 image bf16, batch 32, 2 threads"],
        )
        self.assertEqual({(c.model, c.tower) for c in peers.matrix(args)}, {("vit-b-32", "image"), ("vit-l-14", "image")})
        args = self.parse("--models", "vit-h-14", "--texts", "x", "--batches", "3", "--dtypes", "int8")
        self.assertEqual([(c.tower, c.batch) for c in peers.matrix(args)], [("image", 3), ("text", 3)])

    def test_wrong_usage(self) -> None:
        """Messages name the flag and what was expected."""
        for args, want in (
            (["--models", "vit-b-32,x"], "argument --models: 'x': expected some of vit-b-32, vit-l-14, vit-h-14"),
            (["--rounds", "0"], "argument --rounds: 0: expected a number above 0"),
            (["--rounds", "many"], "argument --rounds: invalid int value: 'many'"),
            (["--batches", "1,0"], "argument --batches: 0: expected a number above 0"),
            (["--towers", "text"], "--towers text: --texts PATH is missing"),
            (["--engine", "/none"], "--engine /none: no such file: run make first"),
        ):
            with mock.patch("sys.stderr") as err, self.assertRaises(SystemExit):
                self.parse(*args)
            self.assertIn(want, "".join(call.args[0] for call in err.write.call_args_list), args)


if __name__ == "__main__":
    unittest.main()
