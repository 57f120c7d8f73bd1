"""Run by test_fused_head.py: the kernels compiled to machine code for compute capability 9.0, without a GPU."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tokenlm.agents.networks import triton_head, triton_kernels

POINTERS = {"parts": "*fp32", "best": "*i64", "bias": "*fp32", "log_mass": "*fp32", "gradient": "*fp32"}
POINTERS |= {"out": "*fp32", "out_bias": "*fp32", "hidden": "*bf16", "weight": "*bf16", "scale": "fp32"}
TILES = {"ROWS": triton_head._ROWS, "COLUMNS": triton_head._COLUMNS, "DEPTH": triton_head._DEPTH, "PRECISION": "ieee"}

for name, extra in (("forward", {"HARD": False}), ("to_hidden", {"WIDE": 256}), ("to_weight", {"WIDE": 256})):
    kernel = getattr(triton_kernels, name)
    constants = {**TILES, **extra}
    signature = {n: "constexpr" if n in constants else POINTERS.get(n, "i32") for n in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(n),): v for n, v in constants.items()})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": triton_head._WARPS})
    if not compiled.asm["cubin"] or compiled.metadata.shared > 227 * 1024:
        raise SystemExit(f"{name} needs {compiled.metadata.shared} bytes of shared memory")
    print(name)
