"""The PyTorch peer of bench/peers.js: torch_peer.py <path to torch_moe.py>. The model is that file's."""

import importlib.util
import os
import re
import sys
from dataclasses import fields

import torch
import torch.nn.functional as F

from serving import openblas_in_use, serve


def load_model_file(path):
    spec = importlib.util.spec_from_file_location("torch_moe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["torch_moe"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def model_run(moe, scenario):
    known = {field.name for field in fields(moe.Config)}
    config = moe.Config(**{key: value for key, value in scenario["config"].items() if key in known})
    batch, seq = scenario["batch"], scenario["seq"]
    if scenario["work"] == "forward":
        return moe.make_forward(config, batch, seq)
    if scenario["work"] == "train":
        return moe.make_train(config, batch, seq)
    ids = torch.randint(config.vocab_size, (batch, seq))

    def construct_and_forward():
        with torch.inference_mode():
            return moe.MoETransformer(config).eval()(ids)
    return construct_and_forward


def kernel_run(moe, scenario):
    sizes = scenario["sizes"]
    if scenario["kernel"] == "matmul":
        a, b = torch.randn(sizes["n"], sizes["n"]), torch.randn(sizes["n"], sizes["n"])
        return torch.inference_mode()(lambda: F.linear(a, b))
    if scenario["kernel"] == "softmax":
        x = torch.randn(sizes["n"])
        return torch.inference_mode()(lambda: x.softmax(0))
    x, norm = torch.randn(sizes["rows"], sizes["cols"]), moe.RMSNorm(sizes["cols"], 1e-6)
    return torch.inference_mode()(lambda: norm(x))


def main():
    moe = load_model_file(sys.argv[1])
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

    def prepare(scenario):
        return (kernel_run if scenario["work"] == "kernel" else model_run)(moe, scenario)
    serve(hello, prepare)


if __name__ == "__main__":
    main()
