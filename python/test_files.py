"""The files of a run folder under the real packages: safetensors reads its weights, TensorBoard its events; and what those packages write, adatape reads.

Trains a tiny model with build/release/adatape (or the program named by ADATAPE_PROGRAM).
"""
import json
import os
import pathlib
import subprocess

import numpy
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("ADATAPE_PROGRAM") or str(ROOT / "build" / "release" / "adatape")

CONFIG = """
[task]
name = "parity"
length = 6
[model]
name = "adatape"
width = 8
heads = 2
ffn_width = 8
blocks = 1
[[model.readers]]
before_block = 0
max_tape_tokens = 3
threshold = 1.5
[training]
steps = 12
batch_size = 8
evaluate_every = 4
validation_examples = 32
checkpoint_every = 6
[evaluation]
test_examples = 40
"""


def adatape(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "tiny.toml").write_text(CONFIG)
    adatape("train", folder / "tiny.toml", "--output", folder / "run", "--quiet", "--threads", 1)
    return folder / "run"


def metrics_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_weights(run):
    path = run / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    assert weights["stem.symbol_weight"].shape == (8, 3)
    assert weights["block_0.qkv.weight"].shape == (24, 8)
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights.values())
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(weights)
        assert {"version", "step"} <= set(file.metadata())
        for name in file.keys():
            assert numpy.array_equal(file.get_tensor(name), weights[name].numpy())


def test_checkpoints(run):
    for name in ("model", "optimizer"):
        tensors = safetensors.torch.load_file(run / "checkpoints" / "step_12" / f"{name}.safetensors")
        assert tensors and all(tensor.isfinite().all() for tensor in tensors.values())


def test_weights_written_by_safetensors(run, tmp_path):
    """The same weights, saved by the real package in its own order and alignment, are the same model."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.toml").write_bytes((run / "config.toml").read_bytes())
    safetensors.torch.save_file(safetensors.torch.load_file(run / "model.safetensors"), copy / "model.safetensors")
    measured = [json.loads(adatape("evaluate", folder, "--json", "--threads", 1)) for folder in (run, copy)]
    assert measured[0]["loss"] == measured[1]["loss"]


def test_forward(run, tmp_path):
    """Inputs from the real package; the logits come back to it, and the gradient of the classifier's bias is the cotangent's sum."""
    torch.manual_seed(0)
    cotangent = torch.randn(5, 2)
    safetensors.torch.save_file({"symbols": torch.randint(0, 3, (5, 6)), "cotangent": cotangent}, tmp_path / "in.safetensors")
    adatape("forward", run, "--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.safetensors", "--gradients")
    out = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert out["logits"].shape == (5, 2)
    assert out["tape_length"].dtype == torch.int32 and (out["tape_length"] >= 2).all() and (out["tape_length"] <= 3).all()
    assert torch.equal(out["tape_indices"] >= 0, out["tape_weights"] > 0)
    torch.testing.assert_close(out["grad/head.classifier.bias"], cotangent.sum(0), rtol=0, atol=1e-5)


def test_events(run):
    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()["scalars"]
    lines = metrics_of(run)
    for key, tag in (("loss", "train/loss"), ("validation_accuracy", "validation/accuracy")):
        assert tag in tags, tags
        expected = [(line["step"], line[key]) for line in lines if key in line]
        got = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in got] == [step for step, _ in expected]
        numpy.testing.assert_allclose([value for _, value in got], [value for _, value in expected], rtol=1e-6)
    assert all(event.wall_time > 1.6e9 for event in events.Scalars("train/loss"))
