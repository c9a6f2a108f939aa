"""ViT-B/16 and AdaTape-B/16 on a CUDA device beside timm in PyTorch, eager and torch.compile: inference and a step of training.

Each in turn within one run, medians of means over a few passes; the device is idle between. ViT runs on the same weights everywhere, and its
logits (in training the loss and the gradient's norm) are compared first; AdaTape's logits are compared with those of plain calls on the CPU,
and its rival is a ViT with as many register tokens as AdaTape reads tape tokens on average, rounded up. What differs is left out, and the
exit status is 1 then. Rows named ..._peak hold the time that the model's FLOPs take at the speed of a large matrix
product, measured in the same turns: their ratio is the share of that speed. Rows are added to the benchmarks' file.
"""

import argparse
import contextlib
import copy
import glob
import math
import os
import statistics
import sys
import tempfile
import time
import warnings

import timm
import torch
from peers import Ours, Refused, add_row, as_array, check_plain, difference, print_header, write_rows
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
LARGE_BATCH = 256
GOALS = {"pytorch": 1.0, "compile": 1.1}  # at every batch; eager PyTorch has no goal of its own on a device
BOUNDS = {"bfloat16": 0.03, "float32": 1e-4}  # of relative differences between answers
PEAK_GOALS = {"inference": 0.55, "train": 0.45}
SIDE = 8192  # of the matrices whose product is taken for the device's speed
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SHORT = {"bfloat16": "bf16", "float32": "fp32"}


def library_environment(program):
    """The program loads this Python's CUDA half of torch, where it finds none of its own."""
    lib = os.path.join(os.path.dirname(torch.__file__), "lib")
    nvidia = sorted(glob.glob(os.path.join(os.path.dirname(torch.__file__), "..", "nvidia", "*", "lib")))
    folders = [os.path.dirname(os.path.abspath(program)), lib, *nvidia, os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder)}


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call, device, passes):
    def run():
        wait(device)
        start = time.perf_counter()
        for _ in range(passes):
            call()
        wait(device)
        return 1e3 * (time.perf_counter() - start) / passes

    return run


def timm_model(name, registers, options):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, reg_tokens=registers).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    return model.to(options.device)


def training_step(model, images, labels, dtype):
    """() -> loss of a step: autocast, torch.compile, fused AdamW at a learning rate of 0, as ours has it."""
    model = copy.deepcopy(model).train()
    fused = images.device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.05, fused=fused)

    def loss_of():
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return torch.nn.functional.cross_entropy(model(images), labels)

    torch._dynamo.reset()
    compiled = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = compiled()
        loss.backward()
        optimizer.step()
        return loss

    def gradient_norm():
        return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])

    return step, gradient_norm


def check(what, ours, theirs, precision):
    apart, bound = difference(ours, theirs), BOUNDS[precision]
    if not apart <= bound:
        raise Refused(f"{what}: {apart:.2e} from timm's, expected at most {bound}")
    print(f"{'':36s} {what}: relative difference {apart:.1e}", file=sys.stderr, flush=True)


def turns(runs, rounds):
    """name -> median milliseconds."""
    times = {key: [] for key in runs}
    for run in runs.values():
        run()
        run()
    for _ in range(rounds):
        for key, run in runs.items():
            times[key].append(run())
    return {key: statistics.median(values) for key, values in times.items()}


def matmul(options):
    a = torch.randn(options.matmul_side, options.matmul_side, device=options.device, dtype=torch.bfloat16)
    b = torch.randn_like(a)
    return timed(lambda: a @ b, options.device, 5)


def prefix_of(options, family, batch, precision, kind):
    where = f"b{batch}" if kind == "inference" else "train" if batch == LARGE_BATCH else f"train_b{batch}"
    return f"{family}_{options.size[0]}16_{where}_{SHORT[precision]}_"


def measure(options, family, batch, precision, kind, rows):
    """Adds the rows of one model, batch, precision and kind; returns how many rivals were left out. Refused where ours is wrong."""
    preset = f"{family}_{options.size}_patch16_224"
    dtype, device = DTYPES[precision], options.device
    passes = options.passes or (5 if batch >= LARGE_BATCH else 20)
    environment = library_environment(options.program)
    left_out = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        torch.manual_seed(0)
        images, labels = torch.rand(batch, 3, 224, 224) * 2 - 1, torch.randint(0, 1000, (batch,))
        save_file({"images": images, "labels": labels}, f"{folder}/images.safetensors")
        images, labels = images.to(device), labels.to(device)
        more = ["--device", str(device)] + (["--train"] if kind == "train" else [])

        def start(at, weights):
            made = Ours(options.program, preset, at, folder, weights, more, environment)
            stack.callback(made.close)
            return made

        ours, registers, name = None, 0, f"vit_{options.size}_patch16_224"
        checked = dict.fromkeys(["float32", precision] if kind == "inference" else [precision])
        if family == "adatape":
            for at in checked:
                if ours is not None:
                    ours.close()
                ours = start(at, None)
                check_plain(ours, BOUNDS[at])
            registers = math.ceil(ours.about["tape_tokens"])
        model = timm_model(name, registers, options)
        with torch.no_grad():
            reference = as_array(model(images).cpu())
        if family == "vit":
            weights = f"{folder}/weights.safetensors"
            save_file({key: value.contiguous().cpu() for key, value in model.state_dict().items()}, weights)
            for at in checked:
                if ours is not None:
                    ours.close()
                ours = start(at, weights)
                check(f"{family} logits, batch {batch}, {at}", ours.logits, reference, at)

        others, guard = {}, torch.inference_mode
        if kind == "train":
            step, gradient_norm = training_step(model, images, labels, dtype)
            loss = step()
            if family == "vit":
                given = torch.tensor([ours.about["loss"], ours.about["gradient_norm"]]).numpy()
                for i, (what, value) in enumerate({"loss": loss, "gradient norm": gradient_norm()}.items()):
                    check(f"{family} {what}, {precision}", given[i : i + 1], value.detach().float().cpu().numpy().reshape(1), precision)
            others["compile"], guard = step, torch.enable_grad
        else:
            typed, given = copy.deepcopy(model).to(dtype), images.to(dtype)
            others["pytorch"] = lambda: typed(given)
            torch._dynamo.reset()
            # Short passes wait for Python: there the rival is torch.compile with CUDA graphs.
            compiled = torch.compile(typed, mode="reduce-overhead" if batch <= 8 else None)
            others["compile"] = lambda: compiled(given)
        with guard():
            for rival, call in list(others.items()) if kind == "inference" else []:
                try:
                    check(f"{rival}'s logits, batch {batch}, {precision}", as_array(call().cpu()), reference, precision)
                except Refused as reason:
                    print(f"bench-peers: {rival} is left out: {reason}", file=sys.stderr, flush=True)
                    del others[rival]
                    left_out += 1
            runs = {"ours": lambda: ours.run(passes), **{rival: timed(call, device, passes) for rival, call in others.items()}}
            if batch >= LARGE_BATCH and precision == "bfloat16":
                runs["matmul"] = matmul(options)
            medians = turns(runs, options.rounds)
    prefix = prefix_of(options, family, batch, precision, kind)
    # A step's gradients cost two more passes.
    flops = ours.about["flops"] * batch * (3 if kind == "train" else 1)
    for rival in others:
        columns = {
            "images_per_second": 1e3 * batch / medians["ours"],
            "register_tokens": registers,
            "tape_tokens": ours.about["tape_tokens"],
            "device": options.device_name,
        }
        add_row(rows, prefix + rival, medians["ours"], rival, medians[rival], GOALS[rival], columns)
    if "matmul" in medians:
        speed = 2 * options.matmul_side**3 / medians["matmul"]  # FLOPs a millisecond
        columns = {"matmul_tflops": speed / 1e9, "flops_an_image": ours.about["flops"], "device": options.device_name}
        add_row(rows, prefix + "peak", medians["ours"], "peak", flops / speed, PEAK_GOALS[kind], columns)
        print(f"{'':36s} a product of side {options.matmul_side}: {speed / 1e9:.0f} TFLOP/s", file=sys.stderr, flush=True)
    return left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default="cuda")
    parser.add_argument("--program", default="build/release/adatape_peer")
    parser.add_argument("--output", default="runs/benchmarks.json")
    parser.add_argument("--kind", nargs="+", default=["inference", "train"], choices=["inference", "train"])
    parser.add_argument("--model", nargs="+", default=["vit", "adatape"], choices=["vit", "adatape"])
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, LARGE_BATCH], help="of inference")
    parser.add_argument("--train-batch", type=int, nargs="+", default=[LARGE_BATCH])
    parser.add_argument("--precision", nargs="+", default=["bfloat16"], choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=11, help="turns; medians of them count")
    parser.add_argument("--passes", type=int, help="between two waits for the device [5 at batch 256, 20 below]")
    parser.add_argument("--matmul-side", type=int, default=SIDE)
    options = parser.parse_args()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("bench-peers: --device cuda: expected a CUDA device, torch finds none")
    options.device_name = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print_header(options.device_name)
    rows, begun, refused = [], [], 0
    for kind in options.kind:
        for precision in options.precision:
            for family in options.model:
                for batch in options.batch if kind == "inference" else options.train_batch:
                    begun.append(prefix_of(options, family, batch, precision, kind))
                    try:
                        refused += measure(options, family, batch, precision, kind, rows)
                    except Refused as reason:
                        where = f"{kind} of {family} in {precision} at batch {batch}"
                        print(f"bench-peers: {where} is left out: {reason}", file=sys.stderr, flush=True)
                        refused += 1
                    write_rows(options.output, rows, begun)
                    if options.device.type == "cuda":
                        torch.cuda.empty_cache()
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
