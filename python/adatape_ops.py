"""adatape's operators in Python: importing this module registers torch.ops.adatape.tape_read and its gradient.

The library is build/release/libadatape_ops.so beside this folder, or the file named by ADATAPE_LIBRARY. It needs the torch that it was compiled
against (2.11): import torch loads libtorch_cpu.so first, and the loader then serves the library's reference to that name with it.
"""
import os
import pathlib

import torch

LIBRARY = os.environ.get("ADATAPE_LIBRARY") or str(pathlib.Path(__file__).resolve().parents[1] / "build" / "release" / "libadatape_ops.so")
if not os.path.exists(LIBRARY):
    raise ImportError(f"adatape_ops: expected {LIBRARY}; build it (cmake --build build/release --target adatape_ops) or set ADATAPE_LIBRARY")
torch.ops.load_library(LIBRARY)

tape_read = torch.ops.adatape.tape_read
