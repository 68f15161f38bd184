"""The PyTorch peer of bench/distributed.js: a rank of DistributedDataParallel over gloo. ddp_peer.py <job as JSON>; the rank and its
peers come from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Rank 0 prints one line of JSON: the times of its steps in ms, and the loss.

The model is torch_model.py's, its experts one after another."""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from torch_model import Model, TrainStep

WARM_UPS = 2


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo")
    config, ranks = job["config"], dist.get_world_size()
    model = DistributedDataParallel(Model(config), gradient_as_bucket_view=True)
    rows = job["batch"] // ranks
    first = dist.get_rank() * rows
    ids = (torch.arange(first * job["seq"], (first + rows) * job["seq"]) % config["vocab_size"]).view(rows, -1)
    targets = (ids + 1) % config["vocab_size"]
    train_step = TrainStep(model, lambda: model(ids, targets))
    times = []
    for step in range(WARM_UPS + job["steps"]):
        begun = time.perf_counter()
        loss, _ = train_step()
        if step >= WARM_UPS:
            times.append(1000 * (time.perf_counter() - begun))
    if dist.get_rank() == 0:
        parameters = sum(each.numel() for each in model.parameters())
        print(json.dumps({"times": times, "loss": loss, "parameters": parameters, "version": torch.__version__}))
    dist.destroy_process_group()


main()
