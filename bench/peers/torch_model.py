"""This library's model as PyTorch 2.x has it: scaled_dot_product_attention, one product for gate and up of an expert, tokens sorted by
expert, and the experts' products by grouped_mm or one after another. Used by torch_peer.py and ddp_peer.py."""

import json
import mmap
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.1, 1.0
LR, WARMUP_STEPS = 1e-4, 1000
BALANCE = 0.01


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

        def rotated(z):  # halves, as transformers has them
            a, b = z.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(z.dtype)
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
        self.way = loop

    def forward(self, x):
        """Returns the output and the balance loss, E * sum_e f_e P_e."""
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        probs = self.gate(x).float().softmax(-1)
        weights, index = probs.topk(self.chosen, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        order = index.reshape(-1).argsort(stable=True)
        token = order // self.chosen
        counts = F.one_hot(index.reshape(-1), self.count).sum(0)
        # Autocast doesn't know grouped_mm.
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else self.down.dtype
        out = self.way(x[token].to(dtype), self.gate_up.to(dtype), self.down.to(dtype), counts)
        out = (out * weights.reshape(-1)[order].unsqueeze(-1)).to(x.dtype)
        balance = self.count * torch.dot(counts / counts.sum(), probs.mean(0))
        return torch.zeros_like(x).index_add_(0, token, out).view(shape), balance


def loop(x, gate_up, down, counts):
    """The experts one after another: x [T*K, H], sorted by expert."""
    parts = []
    for rows, w_in, w_out in zip(x.split(counts.tolist()), gate_up.unbind(0), down.unbind(0)):
        gate, up = F.linear(rows, w_in).chunk(2, -1)
        parts.append(F.linear(F.silu(gate) * up, w_out))
    return torch.cat(parts)


def grouped(x, gate_up, down, counts):
    """The same by grouped_mm, which torch.compile takes without a break."""
    ends = counts.cumsum(0).to(torch.int32)
    gate, up = F.grouped_mm(x, gate_up.transpose(-2, -1), offs=ends).chunk(2, -1)
    return F.grouped_mm(F.silu(gate) * up, down.transpose(-2, -1), offs=ends)


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

    def forward(self, ids, targets=None):
        """Logits [B, S, V], or with targets the loss: cross-entropy, and 0.01 of the balance losses."""
        cos, sin = (table[: ids.shape[1]] for table in self.rotation)
        x, balance = self.embedding(ids), 0
        for block in self.blocks:
            x, of_block = block(x, cos, sin)
            balance = balance + of_block
        return self.tail(x, balance, targets)

    def tail(self, x, balance, targets):
        logits = self.head(self.norm(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()) + BALANCE * balance

    def choose_experts(self, way):
        for block in self.blocks:
            block.experts.way = way

    @torch.no_grad()
    def load(self, folder):
        """Takes the weights of a Mixtral of the same sizes, as transformers reads it."""
        tensors = read_safetensors(Path(folder) / "model.safetensors")
        self.embedding.weight.copy_(tensors["model.embed_tokens.weight"])
        self.norm.weight.copy_(tensors["model.norm.weight"])
        self.head.weight.copy_(tensors["lm_head.weight"])
        for i, block in enumerate(self.blocks):
            of = f"model.layers.{i}."
            block.norm1.weight.copy_(tensors[of + "input_layernorm.weight"])
            block.norm2.weight.copy_(tensors[of + "post_attention_layernorm.weight"])
            for name in "qkvo":
                getattr(block.attention, name).weight.copy_(tensors[f"{of}self_attn.{name}_proj.weight"])
            experts = block.experts
            experts.gate.weight.copy_(tensors[of + "block_sparse_moe.gate.weight"])
            for e in range(experts.count):
                w1, w2, w3 = (tensors[f"{of}block_sparse_moe.experts.{e}.w{n}.weight"] for n in (1, 2, 3))
                experts.gate_up[e].copy_(torch.cat((w1, w3)))
                experts.down[e].copy_(w2)


def read_safetensors(path):
    """Float32 tensors by name, views of the mapped file."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    begin = 8 + int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8:begin])
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(mapped, dtype=torch.float32, offset=begin + each["data_offsets"][0],
                               count=(each["data_offsets"][1] - each["data_offsets"][0]) // 4).view(each["shape"])
        for name, each in header.items()
    }


class TrainStep:
    """A train step of a model on one batch, with this library's defaults: AdamW, warm-up of the rate, norm clipped. Returns loss and norm."""

    def __init__(self, model, loss_of):
        self.parameters, self.loss_of, self.step = list(model.parameters()), loss_of, 0
        self.optimizer = torch.optim.AdamW(self.parameters, LR, BETAS, weight_decay=WEIGHT_DECAY, fused=True)

    def __call__(self):
        self.step += 1
        self.optimizer.param_groups[0]["lr"] = LR * min(1, self.step / WARMUP_STEPS)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        return [loss.item(), norm.item()]


def fastest(ways, run):
    """The way for which run(way) takes the least time, the first call of each aside."""
    if len(ways) == 1:
        return ways[0]
    times = []
    for way in ways:
        run(way)
        begun = time.perf_counter()
        run(way)
        times.append(time.perf_counter() - begun)
    return ways[times.index(min(times))]
