"""The PyTorch peer of bench/peers.js, in one form: torch_peer.py eager|compile. The model is torch_model.py's.

bfloat16 is autocast in train steps; a forward has its weights in bfloat16, which takes less time.
"""

import os
import re
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from serving import batch_of, openblas_in_use, serve
from torch_model import Model, TrainStep, fastest, grouped, loop

# Up to so many blocks, torch.compile takes the whole model; of more it takes each, which are compiled once for all.
WHOLE_BLOCKS = 2


def autocast(scenario):
    return torch.autocast("cpu", torch.bfloat16, enabled=scenario["precision"] == "bfloat16")


def batch_tensors(scenario):
    return map(torch.tensor, batch_of(scenario["batch"], scenario["seq"], scenario["config"]["vocab_size"]))


def choose_experts(model, scenario, compiled):
    """Takes the faster way of the experts' products, by a pass of one layer over as many tokens."""
    experts, train = model.blocks[0].experts, scenario["work"] == "train"
    x = torch.randn(scenario["batch"], scenario["seq"], scenario["config"]["hidden_size"])

    def one_pass(way):
        experts.way = way
        with autocast(scenario), torch.set_grad_enabled(train):
            y, _ = experts(x)
        if train:
            y.square().mean().backward()
    # A loop over counts breaks what torch.compile takes as one.
    model.choose_experts(fastest([grouped] if compiled else [grouped, loop], one_pass))
    model.zero_grad()


def compile_model(model):
    if len(model.blocks) <= WHOLE_BLOCKS:
        return torch.compile(model, dynamic=False)
    for block in model.blocks:
        block.compile(dynamic=False)
    model.tail = torch.compile(model.tail, dynamic=False)
    return model


def model_run(scenario, compiled):
    ids, targets = batch_tensors(scenario)
    if scenario["work"] == "cold":
        def construct_and_forward():
            with torch.inference_mode():
                return Model(scenario["config"]).eval()(ids)
        return construct_and_forward
    model = Model(scenario["config"])
    model.load(scenario["weights"])
    choose_experts(model, scenario, compiled)
    called = compile_model(model) if compiled else model
    if scenario["work"] == "train":
        def loss_of():
            with autocast(scenario):
                return called(ids, targets)
        return TrainStep(model, loss_of)
    if scenario["precision"] == "bfloat16":
        model.to(torch.bfloat16)
    # What was compiled is not to see tensors of inference mode.
    mode = torch.no_grad if compiled else torch.inference_mode

    def forward():
        with mode():
            return called(ids)
    return forward, lambda logits: [F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()).item()]


def kernel_run(scenario, compiled):
    sizes = scenario["sizes"]
    if scenario["kernel"] == "matmul":
        function, inputs = torch.mm, [torch.randn(sizes["n"], sizes["n"]) for _ in range(2)]
    elif scenario["kernel"] == "softmax":
        function, inputs = torch.nn.Softmax(0), [torch.randn(sizes["n"])]
    else:
        function, inputs = nn.RMSNorm(sizes["cols"], 1e-6), [torch.randn(sizes["rows"], sizes["cols"])]
    if compiled:
        function = torch.compile(function, dynamic=False)
        return torch.no_grad()(lambda: function(*inputs))
    return torch.inference_mode()(lambda: function(*inputs))


def main():
    compiled = sys.argv[1] == "compile"
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    core, _ = openblas_in_use(skip="numpy")
    hello = {
        "name": "PyTorch",
        "version": torch.__version__,
        "python": sys.version.split()[0],
        "blas": re.search(r"BLAS_INFO=(\w+)|$", torch.__config__.show())[1] or "?",
        "blas_core": core,
        "threads": torch.get_num_threads(),
    }
    serve(hello, lambda scenario: (kernel_run if scenario["work"] == "kernel" else model_run)(scenario, compiled))


if __name__ == "__main__":
    main()
