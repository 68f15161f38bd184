"""The NumPy peer of bench/peers.js: the scenarios on numpy_moe.py."""

import os
import sys

import numpy as np

from numpy_moe import Config, Model, Trainer, rms_norm
from serving import batch_of, openblas_in_use, serve

SEED = 42


def model_run(scenario):
    config = Config.from_json(scenario["config"])
    ids, targets = (np.array(rows) for rows in batch_of(scenario["batch"], scenario["seq"], config.vocab_size))
    if scenario["work"] == "cold":
        return lambda: Model(config, SEED).forward(ids)
    model = Model(config, SEED)
    if scenario["work"] == "forward":
        return lambda: model.forward(ids)
    trainer = Trainer(model)
    return lambda: trainer.step(ids, targets)


def kernel_run(scenario):
    sizes, rng = scenario["sizes"], np.random.default_rng(SEED)
    if scenario["kernel"] == "matmul":
        a, b = (rng.standard_normal((sizes["n"], sizes["n"]), np.float32) for _ in range(2))
        out = np.empty_like(a)
        return lambda: np.matmul(a, b, out=out)
    if scenario["kernel"] == "softmax":
        x, out = rng.standard_normal(sizes["n"], np.float32), np.empty(sizes["n"], np.float32)

        def run():
            np.subtract(x, x.max(), out=out)
            np.exp(out, out=out)
            np.divide(out, out.sum(), out=out)
        return run
    x = rng.standard_normal((sizes["rows"], sizes["cols"]), np.float32)
    gamma = np.ones(sizes["cols"], np.float32)
    return lambda: rms_norm(x, gamma, 1e-6)


def hello():
    core, threads = openblas_in_use()
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        "name": "NumPy",
        "version": np.__version__,
        "python": sys.version.split()[0],
        "blas": f"{blas.get('name', '?')} {blas.get('version', '?')}",
        "blas_core": core,
        "threads": threads or int(os.environ["OMP_NUM_THREADS"]),
    }


def prepare(scenario):
    return (kernel_run if scenario["work"] == "kernel" else model_run)(scenario)


if __name__ == "__main__":
    serve(hello(), prepare)
