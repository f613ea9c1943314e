"""The peers: one class each, all used the same way. A package is imported when its peer is prepared."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cells import OPENVINO, PYTORCH

# The least timed calls, as in tia2-engine bench, and how long calls are warm-up.
CALLS_MIN = 3
WARM_UP_S = 0.1
WARM_UP_CALLS = 2


@dataclass(frozen=True)
class Setup:
    """What a peer is to run."""

    peer: str
    folder: Path  # of the peer's form of the model, see models.py
    model: str
    tower: str
    dtype: str
    batch: int
    threads: int


class Engine:
    """A tower of a model on one peer: prepare first, then time or embed."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.batches: list[Any] = []

    def prepare(self, items: np.ndarray) -> dict[str, str]:
        """Loads and compiles the model, takes the inputs of the timed calls, which go through them batch by batch, over
        and over, and returns what is worth telling of the peer."""
        told = self.load(items.shape[1:])
        size = self.setup.batch
        rows = np.arange(max(len(items) // size, 1) * size) % len(items)
        self.batches = [self.convert(items[rows[i : i + size]]) for i in range(0, len(rows), size)]
        self.call(self.batches[0])  # in which PyTorch compiles: no warm-up
        return told

    def load(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Loads and compiles the model for items of a shape."""
        raise NotImplementedError

    def convert(self, batch: np.ndarray) -> Any:
        """Returns a batch in the form that call takes."""
        return batch

    def call(self, batch: Any) -> np.ndarray:
        """Returns the embeddings of a batch, f32 [B, D]."""
        raise NotImplementedError

    def embed(self, items: np.ndarray) -> np.ndarray:
        """Returns the embeddings of items, whose number is a multiple of the batch."""
        size = self.setup.batch
        return np.concatenate([self.call(self.convert(items[i : i + size])).copy() for i in range(0, len(items), size)])

    def time(self, seconds: float) -> list[float]:
        """Warms up, calls again and again until the time is up, and returns the seconds of each call."""
        start = time.perf_counter()
        count = 0
        while count < WARM_UP_CALLS or time.perf_counter() - start < WARM_UP_S:
            if count > 0 and time.perf_counter() - start > seconds / 4:
                break
            self.call(self.batches[count % len(self.batches)])
            count += 1
        took: list[float] = []
        while len(took) < CALLS_MIN or sum(took) * (1 + 1 / len(took)) <= seconds:
            batch = self.batches[len(took) % len(self.batches)]
            start = time.perf_counter()
            self.call(batch)
            took.append(time.perf_counter() - start)
        return took


class OpenVINO(Engine):
    """OpenVINO with one of its performance hints. With that of latency one request has all threads."""

    def load(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Compiles the model for batches of one size."""
        import openvino

        core = openvino.Core()
        model = core.read_model(self.setup.folder / "model.xml")
        model.reshape([self.setup.batch, *shape])
        options = {
            "PERFORMANCE_HINT": "LATENCY" if self.setup.peer == OPENVINO[0] else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": self.setup.threads,
        }
        if self.setup.dtype != "int8":  # whose other ops take OpenVINO's default, bf16 where the CPU has it
            options["INFERENCE_PRECISION_HINT"] = self.setup.dtype
        self.compiled = core.compile_model(model, "CPU", options)
        self.request = self.compiled.create_infer_request()
        return {
            "version": openvino.__version__,
            "streams": str(self.compiled.get_property("NUM_STREAMS")),
            "threads": str(self.compiled.get_property("INFERENCE_NUM_THREADS")),
            "precision": self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        }

    def convert(self, batch: np.ndarray) -> Any:
        """Makes the array contiguous, so that it is used without a copy."""
        return np.ascontiguousarray(batch)

    def call(self, batch: Any) -> np.ndarray:
        """Runs one request to its end."""
        return self.request.infer([batch], share_inputs=True, share_outputs=True)[0]


class OpenVINOThroughput(OpenVINO):
    """OpenVINO with a request in each of its streams."""

    def load(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Compiles the model and makes a queue of as many requests as OpenVINO finds best."""
        import openvino

        told = super().load(shape)
        self.queue = openvino.AsyncInferQueue(self.compiled)
        return {**told, "requests": str(len(self.queue))}

    def time(self, seconds: float) -> list[float]:
        """Warms up, keeps all streams busy for a time, and returns the mean seconds of a call: calls overlap."""
        warm = self.calls(len(self.queue))
        if warm < seconds / 4:
            warm = self.calls(len(self.queue))
        turns = max(CALLS_MIN, int(seconds / warm))
        n = turns * len(self.queue)
        return [self.calls(n) / n] * n

    def calls(self, n: int) -> float:
        """Makes n calls and returns the seconds of all."""
        start = time.perf_counter()
        for i in range(n):
            self.queue.start_async([self.batches[i % len(self.batches)]], share_inputs=True)
        self.queue.wait_all()
        return time.perf_counter() - start


class ONNXRuntime(Engine):
    """ONNX Runtime's CPU provider."""

    def load(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Opens a session that optimises as much as it can."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self.setup.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls, when others have their turn
        self.session = onnxruntime.InferenceSession(
            str(self.setup.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return {"version": onnxruntime.__version__}

    def call(self, batch: Any) -> np.ndarray:
        """Runs the session."""
        return self.session.run(None, {"input": batch})[0]


class PyTorch(Engine):
    """PyTorch, eager or compiled."""

    def load(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Loads the checkpoint, converts it and compiles it where that is asked for."""
        import torch

        from models import load_tower

        torch.set_num_threads(self.setup.threads)
        self.torch = torch
        self.model: Any = load_tower(self.setup.folder, self.setup.model, self.setup.tower)
        if self.setup.dtype == "bf16":
            self.model = self.model.bfloat16()
        if self.setup.peer == PYTORCH[1]:
            import torch._inductor.config as inductor

            inductor.freezing = True  # weights are packed once, as its makers advise for a CPU
            self.model = torch.compile(self.model, dynamic=False)
        return {"version": torch.__version__}

    def convert(self, batch: np.ndarray) -> Any:
        """Makes a tensor, in the model's type if it holds pixels."""
        tensor = self.torch.from_numpy(batch)
        return tensor.bfloat16() if self.setup.dtype == "bf16" and self.setup.tower == "image" else tensor

    def call(self, batch: Any) -> np.ndarray:
        """Runs the module without gradients."""
        with self.torch.inference_mode():
            return self.model(batch).float().numpy()


def create(setup: Setup) -> Engine:
    """Returns the engine of a peer, unprepared."""
    classes = {
        OPENVINO[0]: OpenVINO,
        OPENVINO[1]: OpenVINOThroughput,
        "onnxruntime": ONNXRuntime,
        PYTORCH[0]: PyTorch,
        PYTORCH[1]: PyTorch,
    }
    return classes[setup.peer](setup)
