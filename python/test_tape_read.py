"""tape_read from Python: the dispatcher's contract (opcheck), gradients, the golden case, torch.compile.

Needs the whole torch package: python3 -m venv build/python && build/python/bin/pip install torch==2.11.0 numpy pytest safetensors,
then build/python/bin/pytest python.
"""
import json
import pathlib

import pytest
import safetensors.torch
import torch

import adatape_ops

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden" / "tape_reader"
OPTIONS = dict(key_width=3, max_steps=4, rows_per_step=2, threshold=1.6)


def arguments(rows, width=6, dtype=torch.float64, shared=False, requires_grad=True):
    torch.manual_seed(0)
    batch = len(rows)
    query = torch.randn(batch, width, dtype=dtype)
    bank = torch.randn(rows[0] if shared else sum(rows), width, dtype=dtype)
    offsets = None if shared else torch.tensor([0, *torch.tensor(rows).cumsum(0).tolist()])
    weight, bias = 1 + 0.3 * torch.randn(width, dtype=dtype), 0.3 * torch.randn(width, dtype=dtype)
    for tensor in (query, bank, weight, bias):
        tensor.requires_grad_(requires_grad)
    return query, bank, offsets, weight, bias


CASES = {
    "packed": ([9, 3, 0, 12], False, {}),
    "shared": ([9, 9], True, {}),
    "replace": ([9, 5], False, dict(query_update="replace", ponder="max")),
    "limits": ([9, 5], False, dict(thresholds=torch.tensor([1.0, 0.4]), step_limits=torch.tensor([3, 2]))),
    "mask": ([9, 5], False, dict(bank_mask=torch.arange(14) % 3 > 0)),
    "query_offset": ([9, 5], False, dict(query_offset=torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5]], dtype=torch.float64))),
    "order": ([4, 3], False, dict(order=torch.tensor([2, 0, 1, 3, 1, 2, 0]))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dispatcher_contract(name, dtype):
    rows, shared, options = CASES[name]
    torch.library.opcheck(adatape_ops.tape_read, arguments(rows, dtype=dtype, shared=shared), {**OPTIONS, **options})


@pytest.mark.parametrize("name", CASES)
def test_gradient(name):
    rows, shared, options = CASES[name]
    query, bank, offsets, weight, bias = arguments(rows, shared=shared)

    def read(query, bank, weight, bias):
        tokens, weights, _, _, ponder, _ = adatape_ops.tape_read(query, bank, offsets, weight, bias, **OPTIONS, **options)
        return tokens, weights, ponder

    assert torch.autograd.gradcheck(read, (query, bank, weight, bias))


def test_golden_entry():
    given = safetensors.torch.load_file(GOLDEN / "inputs.safetensors")
    parameters = safetensors.torch.load_file(GOLDEN / "weights.safetensors")
    expected = safetensors.torch.load_file(GOLDEN / "expected.safetensors")
    config = json.loads((GOLDEN / "case.json").read_text())["config"]["ragged"]
    query, bank = given["ragged/query"].requires_grad_(), given["ragged/bank"].requires_grad_()
    tokens, weights, indices, lengths, ponder, _ = adatape_ops.tape_read(
        query, bank, given["ragged/bank_offsets"].long(), parameters["ragged/bank_norm/scale"], parameters["ragged/bank_norm/bias"],
        key_width=config["key_width"], max_steps=config["T"], rows_per_step=config["K"], threshold=config["tau"])
    assert torch.equal(indices.int(), expected["ragged/tape_indices"])
    assert torch.equal(lengths.int(), expected["ragged/tape_length"])
    torch.testing.assert_close(tokens, expected["ragged/tape_tokens"], rtol=0, atol=3e-5)
    torch.testing.assert_close(weights, expected["ragged/tape_weights"], rtol=0, atol=1e-5)
    ((tokens * given["ragged/cotangent"]).sum() + config["lambda"] * ponder.mean()).backward()
    torch.testing.assert_close(query.grad, expected["grad/ragged/query"], rtol=0, atol=1e-4)
    torch.testing.assert_close(bank.grad, expected["grad/ragged/bank"], rtol=0, atol=1e-4)


def test_compiled():
    query, bank, offsets, weight, bias = arguments([9, 5], dtype=torch.float32)

    def loss(query, bank):
        tokens, _, _, _, ponder, _ = adatape_ops.tape_read(query, bank, offsets, weight, bias, **OPTIONS)
        return tokens.square().sum() + ponder.sum()

    plain = torch.autograd.grad(loss(query, bank), (query, bank))
    compiled = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(query, bank), (query, bank))
    for got, expected in zip(compiled, plain):
        torch.testing.assert_close(got, expected)


def test_errors_are_one_line():
    query, bank, offsets, weight, bias = arguments([9, 5])
    with pytest.raises(RuntimeError, match=r"^tape_read: expected bank \[rows, 6\] as query is \[2, 6\], got \[14, 5\]$"):
        adatape_ops.tape_read(query, bank[:, :5], offsets, weight, bias, **OPTIONS)


def test_one_copy_of_torch():
    loaded = {line.split()[-1] for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if line.endswith("/libtorch_cpu.so")}
    assert len(loaded) == 1, loaded
