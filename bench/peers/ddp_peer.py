"""The PyTorch peer of bench/distributed.js: a rank of DistributedDataParallel over gloo. ddp_peer.py <job as JSON>; the rank and its
peers come from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Rank 0 prints one line of JSON: the times of its steps in ms, and the loss.

The model is this library's, written as PyTorch 2.x has it: scaled_dot_product_attention, one product for gate and up of an expert,
tokens sorted by expert, fused AdamW."""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

WARM_UPS = 2


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


def rotation(config):
    """cos and sin [S, 1, D/2]"""
    dim = config["head_dim"]
    rates = config["rope_theta"] ** (-torch.arange(0, dim, 2).float() / dim)
    angles = torch.outer(torch.arange(config["max_position_embeddings"]).float(), rates)
    return angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim, hidden = config["head_dim"], config["hidden_size"]
        self.q, self.o = linear(hidden, self.heads * self.dim), linear(self.heads * self.dim, hidden)
        self.k, self.v = (linear(hidden, self.kv_heads * self.dim) for _ in range(2))

    def forward(self, x, cos, sin):
        batch, seq, _ = x.shape

        def rotated(z):  # halves instead of pairs: the same work
            a, b = z.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
        q = rotated(self.q(x).view(batch, seq, self.heads, self.dim))
        k = rotated(self.k(x).view(batch, seq, self.kv_heads, self.dim))
        v = self.v(x).view(batch, seq, self.kv_heads, self.dim)
        # On the CPU enable_gqa takes the slow path, so keys and values are repeated.
        k, v = (z.repeat_interleave(self.heads // self.kv_heads, 2) for z in (k, v))
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, seq, -1))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, width = config["hidden_size"], config["intermediate_size"]
        self.count, self.chosen = config["num_local_experts"], config["num_experts_per_tok"]
        self.gate = linear(hidden, self.count)
        self.gate_up = nn.Parameter(torch.randn(self.count, 2 * width, hidden) * (2 / hidden) ** 0.5)
        self.down = nn.Parameter(torch.randn(self.count, hidden, width) * (2 / width) ** 0.5)

    def forward(self, x):
        """Returns the output and the balance loss, E * sum_e f_e P_e."""
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        probs = self.gate(x).softmax(-1)
        weights, index = probs.topk(self.chosen, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        order = index.reshape(-1).argsort(stable=True)
        token = order // self.chosen
        counts = torch.bincount(index.reshape(-1), minlength=self.count)
        parts = []
        for rows, gate_up, down in zip(x[token].split(counts.tolist()), self.gate_up.unbind(0), self.down.unbind(0)):
            gate, up = F.linear(rows, gate_up).chunk(2, -1)
            parts.append(F.linear(F.silu(gate) * up, down))
        out = torch.cat(parts) * weights.reshape(-1)[order].unsqueeze(-1)
        balance = self.count * torch.dot(counts / counts.sum(), probs.mean(0))
        return torch.zeros_like(x).index_add_(0, token, out).view(shape), balance


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.norm1, self.attention = nn.RMSNorm(hidden, eps), Attention(config)
        self.norm2, self.experts = nn.RMSNorm(hidden, eps), Experts(config)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        y, balance = self.experts(self.norm2(x))
        return x + y, balance


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, vocab = config["hidden_size"], config["vocab_size"]
        self.embedding = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm, self.head = nn.RMSNorm(hidden, config["rms_norm_eps"]), linear(hidden, vocab)
        self.rotation = rotation(config)

    def forward(self, ids, targets):
        """The loss: cross-entropy, and 0.01 of the balance losses."""
        cos, sin = (table[: ids.shape[1]] for table in self.rotation)
        x, balance = self.embedding(ids), 0
        for block in self.blocks:
            x, of_block = block(x, cos, sin)
            balance = balance + of_block
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + 0.01 * balance


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo")
    config, ranks = job["config"], dist.get_world_size()
    model = DistributedDataParallel(Model(config), gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    rows = job["batch"] // ranks
    first = dist.get_rank() * rows
    ids = (torch.arange(first * job["seq"], (first + rows) * job["seq"]) % config["vocab_size"]).view(rows, -1)
    targets = (ids + 1) % config["vocab_size"]
    times = []
    for step in range(WARM_UPS + job["steps"]):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss = model(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= WARM_UPS:
            times.append(1000 * (time.perf_counter() - begun))
    if dist.get_rank() == 0:
        parameters = sum(each.numel() for each in model.parameters())
        print(json.dumps({"times": times, "loss": loss.item(), "parameters": parameters, "version": torch.__version__}))
    dist.destroy_process_group()


main()
