"""Tests of all but the references themselves: python3 -m unittest discover bench/parity (needs numpy and pillow only)."""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import catalogue
import inputs
import parity
from compare import compare, table

NAN = float("nan")
REWARDS = np.array([[1.0, 2.0], [3.0, 5.0]])
EMBEDS = np.array([[0.6, 0.8], [1.0, 0.0]])


class CompareTest(unittest.TestCase):
    """What agrees and what does not."""

    def test_agrees(self) -> None:
        rotated = np.array([[0.6, 0.8], [np.cos(0.09), np.sin(0.09)]])  # cosine 0.99595
        for name, array, dtype, got, want, agrees in (
            ("same rewards", "blip_itc", "f32", REWARDS, REWARDS, True),
            ("rewards within f32", "blip_itc", "f32", REWARDS + [[5e-4, 0], [0, 0]], REWARDS, True),
            ("rewards beyond f32", "blip_itc", "f32", REWARDS + 2e-3, REWARDS, False),
            ("rewards shifted in bf16", "blip_itc", "bf16", REWARDS + 0.1, REWARDS, True),
            ("rewards in another order", "blip_itc", "int8", REWARDS[::-1], REWARDS, False),
            ("a reward is NaN", "blip_itc", "int8", np.where(REWARDS == 5, NAN, REWARDS), REWARDS, False),
            ("same embeddings", "image_embeds", "f32", EMBEDS, EMBEDS, True),
            ("embeddings beyond f32", "image_embeds", "f32", EMBEDS + 3e-5, EMBEDS, False),
            ("an embedding turned, in int8", "image_embeds", "int8", rotated, EMBEDS, True),
            ("an embedding turned, in bf16", "image_embeds", "bf16", rotated, EMBEDS, False),
            ("an embedding is NaN", "text_embeds", "int8", EMBEDS * [[1], [NAN]], EMBEDS, False),
            ("several embeddings of a picture", "image_embeds", "f32", EMBEDS.reshape(1, 4), EMBEDS[None], True),
        ):
            with self.subTest(name):
                self.assertEqual(compare("m", array, dtype, got, want).agrees, agrees)

    def test_shape(self) -> None:
        for array, got in (("blip_itc", REWARDS[:1]), ("blip_itc", REWARDS.reshape(1, 4)), ("image_embeds", EMBEDS[:, :1])):
            with self.subTest(array), self.assertRaisesRegex(ValueError, r"expected \[2, 2\]"):
                compare("m", array, "f32", got, REWARDS)

    def test_table(self) -> None:
        same = compare("m", "blip_itc", "f32", REWARDS, REWARDS)
        lines = table([same, compare("m", "image_embeds", "f32", -EMBEDS, EMBEDS)]).splitlines()
        self.assertEqual(len({len(line) for line in lines}), 1)
        self.assertIn("agrees", lines[2])
        self.assertIn("DIFFERS", lines[3])


class CommandsTest(unittest.TestCase):
    """Which commands give the arrays of a reference."""

    def test_groups(self) -> None:
        keys = ["image_embeds", "blip_itc", "blip_itm", "--itm-output logit blip_itm", "text_embeds"]
        want = [
            ("embed", [], ["image_embeds", "text_embeds"]),
            ("score", [], ["blip_itc", "blip_itm"]),
            ("score", ["--itm-output", "logit"], ["blip_itm"]),
        ]
        self.assertEqual(list(parity.commands(dict.fromkeys(keys, REWARDS))), want)


class ArgumentsTest(unittest.TestCase):
    """The command line and the environment."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.engine = ["--engine", str(Path(folder, "engine"))]
        Path(folder, "engine").touch()
        self.enterContext(mock.patch.dict(os.environ, clear=True))
        self.folder = folder

    def names(self, *argv: str) -> list[str]:
        """Returns the models that are compared."""
        args = parity.parse([*self.engine, *argv])
        return [entry.name for entry in args.entries if entry not in args.lacking]

    def test_default(self) -> None:
        self.assertEqual(self.names(), [e.name for e in catalogue.ENTRIES if not e.checkout])
        self.assertEqual(parity.parse(self.engine).dtypes, list(catalogue.DTYPES))

    def test_checkout(self) -> None:
        self.assertEqual(self.names("--blip", self.folder)[-1], "blip")
        os.environ |= {"LAVIS": self.folder, "PARITY_MODELS": "blip2-lavis,clip"}
        self.assertEqual(self.names(), ["clip", "blip2-lavis"])

    def test_wrong(self) -> None:
        for argv, message in (
            (["--models", "clap"], "'clap': expected some of clip"),
            (["--dtypes", "f64"], "'f64': expected some of f32"),
            (["--models", "blip"], "blip: --blip DIR is missing"),
            (["--lavis", "/nowhere"], "no such folder"),
            (["--engine", "/nowhere"], "run make first"),
        ):
            with self.subTest(argv), contextlib.redirect_stderr(io.StringIO()) as stderr:
                self.assertRaises(SystemExit, self.names, *argv)
                self.assertIn(message, stderr.getvalue())


class InputsTest(unittest.TestCase):
    """What is written is what is read, in the order in which tia2-engine reads a folder."""

    def test_round(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wrote = inputs.write(Path(folder, "inputs"))
            self.assertEqual([path.name for path in wrote.pictures], list(inputs.PICTURES))
            self.assertEqual(wrote.texts, list(inputs.TEXTS))


if __name__ == "__main__":
    unittest.main()
