"""Run by test_fused_head.py: the kernels against the plain form, values and gradients.

On the CPU with TRITON_INTERPRET=1, else on a GPU.
"""

import itertools

import torch

from tokenlm.agents.networks import fused_head, triton_head

DEVICE = "cpu" if triton_head.INTERPRETED else "cuda"
generator = torch.Generator().manual_seed(0)
tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
sizes = ((5, 37, 16), (70, 300, 48))
fits = triton_head.fits


def draw(*shape):
    return torch.randn(shape, generator=generator).to(DEVICE)


for (rows, actions, depth), temperature, dtype in itertools.product(sizes, (0.0, 0.5, 1.0), tolerance):
    operands = [draw(rows, depth), 0.3 * draw(actions, depth), draw(actions)]
    valid = torch.arange(actions, device=DEVICE) >= 5
    chosen = torch.randint(5, actions, (rows,), generator=generator).to(DEVICE)
    to_taken, to_peak = draw(2, rows)
    results = []
    for form in (fits, lambda hidden: False):
        triton_head.fits = form
        leaves = [o.clone().requires_grad_() for o in operands]
        # At τ = 0 in bfloat16 the two may choose different actions among equals, so the plain form is exact there.
        used = torch.float32 if temperature == 0.0 else dtype
        taken, peak = fused_head.taken_and_soft_maximum(*leaves, valid, chosen, temperature, used)
        alone = fused_head.soft_maximum(*leaves, valid, temperature, used)
        if not torch.equal(alone, peak):
            raise SystemExit("the maximum without gradient differs")
        gradients = torch.autograd.grad((to_taken * taken + to_peak * peak).sum(), leaves)
        results.append((taken.detach(), peak.detach(), *gradients))
    for plain, kernel in zip(*reversed(results), strict=True):
        scale = plain.abs().max()
        torch.testing.assert_close(kernel / scale, plain / scale, rtol=0, atol=tolerance[dtype])
    print("equal", rows, actions, depth, temperature, dtype)
