"""Inference of ViT-S/16 and AdaTape-S/16 on the CPU beside timm in PyTorch (eager, torch.compile), OpenVINO and ONNX Runtime.

The same threads for all, each in turn within one run, medians. ViT runs on the same weights everywhere and its logits are compared first;
AdaTape's rival is a ViT with as many register tokens as AdaTape reads tape tokens on average, rounded up. Rows are added to the benchmarks' file.
"""

import argparse
import contextlib
import copy
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy
import timm
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
GOALS = {"pytorch": 1.3, "compile": 1.1, "openvino": 1.0, "onnxruntime": 1.0}


class Refused(Exception):
    """A row that cannot be had, and why."""


class Ours:
    """adatape_peer: answers a number of passes with the mean milliseconds of one."""

    def __init__(self, program, model, precision, folder, weights, more=(), environment=None):
        arguments = [program, model, precision, f"{folder}/images.safetensors", f"{folder}/ours.safetensors"]
        arguments += [weights] if weights else []
        self.process = subprocess.Popen(
            [*arguments, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stdout.readline()
        if not line:
            raise Refused(f"adatape_peer {model} {precision} ended without an answer (its error is above)")
        self.about = json.loads(line)
        self.logits = load_file(f"{folder}/ours.safetensors")["logits"]

    def run(self, passes=1):
        self.process.stdin.write(f"{passes}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(call):
    def run():
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)

    return run


def rivals(model, images, precision, threads, folder):
    """name -> (call that computes, its logits as float32)."""
    made = {}
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    typed, given = copy.deepcopy(model).to(dtype), images.to(dtype)
    made["pytorch"] = lambda: typed(given)
    torch._dynamo.reset()
    compiled = torch.compile(typed)
    made["compile"] = lambda: compiled(given)
    onnx = f"{folder}/model.onnx"
    torch.onnx.export(model, (images,), onnx, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"])
    array = images.numpy()
    import openvino

    core = openvino.Core()
    network = core.compile_model(
        core.read_model(onnx),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = network.create_infer_request()
    made["openvino"] = lambda: request.infer([array])[0]
    if precision == "float32":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        made["onnxruntime"] = lambda: session.run(None, {"x": array})[0]
    return made


def as_array(result):
    return result.float().numpy() if isinstance(result, torch.Tensor) else numpy.asarray(result, dtype=numpy.float32)


def difference(a, b):
    return float(numpy.linalg.norm(a - b) / numpy.linalg.norm(b))


def check_plain(ours, bound):
    """AdaTape has no weights elsewhere: it must agree with this library's plain calls in float32, which are held to golden cases."""
    apart = ours.about["apart_from_plain"]
    if apart is None or not apart <= bound:
        raise Refused(f"our logits differ from plain calls by {apart}, expected at most {bound}")


def print_header(where):
    print(f"{'':36s} {'ours, ms':>10s} {'rival':12s} {'rival, ms':>10s} {'ratio':>7s} {'goal':>6s}   {where}", flush=True)


def add_row(rows, name, ours_ms, rival, rival_ms, goal, more):
    ratio = rival_ms / ours_ms
    rows.append({"name": name, "ours_ms": ours_ms, "rival": rival, "rival_ms": rival_ms, "ratio": ratio, "goal": goal, **more})
    short = "  short" if ratio < goal else ""
    print(f"{name:36s} {ours_ms:10.2f} {rival:12s} {rival_ms:10.2f} {ratio:7.2f} {goal:6.2f}{short}", flush=True)


def write_rows(output, rows, begun):
    """Rows of other benchmarks stay in the file; of what was begun (the beginnings of names) only what this run has measured."""
    kept = []
    if os.path.exists(output):
        with open(output) as file:
            kept = [row for row in json.load(file) if not row["name"].startswith(tuple(begun))]
    os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    with open(output + ".new", "w") as file:
        json.dump(kept + rows, file, indent=2)
    os.replace(output + ".new", output)


def prefix_of(name, batch, precision):
    return f"{name}_s16_b{batch}_{'bf16' if precision == 'bfloat16' else 'fp32'}_"


def measure(options, name, batch, precision, rows):
    """Adds the rows of one model, batch and precision; returns how many rivals were left out. Refused where ours is wrong."""
    left_out = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        torch.manual_seed(0)
        images = torch.rand(batch, 3, 224, 224) * 2 - 1
        save_file({"images": images}, f"{folder}/images.safetensors")
        weights, registers, ours = None, 0, None
        if name == "adatape":
            ours = Ours(options.program, "adatape_small_patch16_224", precision, folder, None)
            stack.callback(ours.close)
            registers = math.ceil(ours.about["tape_tokens"])
        model = timm.create_model("vit_small_patch16_224", pretrained=False, reg_tokens=registers).eval()
        torch.nn.init.normal_(model.head.weight, std=0.05)
        if name == "vit":
            weights = f"{folder}/weights.safetensors"
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
            ours = Ours(options.program, "vit_small_patch16_224", precision, folder, weights)
            stack.callback(ours.close)
        with torch.inference_mode():
            reference = as_array(model(images))
            others = rivals(model, images, precision, options.threads, folder)
            bound = 0.03 if precision == "bfloat16" else 1e-4
            if name == "vit" and not difference(ours.logits, reference) <= bound:
                raise Refused(f"our logits differ from timm's by {difference(ours.logits, reference):.2e}, expected at most {bound}")
            if name == "adatape":
                check_plain(ours, bound)
            for rival, call in list(others.items()):
                apart = difference(as_array(call()), reference)
                if not apart <= bound:
                    print(f"bench-peers: {rival} is left out: logits {apart:.2e} from timm's, expected at most {bound}", file=sys.stderr)
                    del others[rival]
                    left_out += 1
            runs = {"ours": ours.run, **{rival: timed(call) for rival, call in others.items()}}
            times = {key: [] for key in runs}
            for key in runs:
                runs[key]()
            for _ in range({1: 15, 8: 7}.get(batch, 3)):
                for key, run in runs.items():
                    time.sleep(0.1)  # threads of the one before may still be spinning
                    times[key].append(run())
    medians = {key: statistics.median(values) for key, values in times.items()}
    for rival in others:
        more = {"images_per_second": 1e3 * batch / medians["ours"], "register_tokens": registers}
        add_row(rows, prefix_of(name, batch, precision) + rival, medians["ours"], rival, medians[rival], GOALS[rival], more)
    return left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/release/adatape_peer")
    parser.add_argument("--output", default="runs/benchmarks.json")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--model", nargs="+", default=["vit", "adatape"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    print_header(f"{options.threads} threads")
    rows, begun, refused = [], [], 0
    with open("/proc/cpuinfo") as about:
        if "avx512_bf16" not in about.read() and "bfloat16" in options.precision:
            print("bench-peers: no rows of bfloat16: this processor has no such products (avx512_bf16)", file=sys.stderr)
            options.precision.remove("bfloat16")
    for name in options.model:
        for precision in options.precision:
            for batch in options.batch:
                begun.append(prefix_of(name, batch, precision))
                try:
                    refused += measure(options, name, batch, precision, rows)
                except Refused as reason:
                    print(f"bench-peers: {name} {precision} at batch {batch} is left out: {reason}", file=sys.stderr)
                    refused += 1
                write_rows(options.output, rows, begun)  # so that a stop loses nothing
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
