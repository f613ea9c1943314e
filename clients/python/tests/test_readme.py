"""The examples of README.md run."""

import os
import pathlib
import re

import pytest

EXAMPLES = re.findall(r"```python\n(.*?)```", (pathlib.Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_example(number, server, capsys):
    url = os.environ.get("TIA2_ENGINE_URL", server.url)
    exec(compile(EXAMPLES[number].replace("http://127.0.0.1:8080", url), f"README.md, example {number}", "exec"), {})
    assert capsys.readouterr().out


def test_there_are_examples():
    assert len(EXAMPLES) == 4
