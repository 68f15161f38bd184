#!/usr/bin/env python3
"""The model in vectorised NumPy: forward, backward, AdamW. A speed peer, written from docs/equations.md.

    numpy_moe.py FOLDER   compares with a fixture: logits, losses, gradients, a few train steps

numpy_peer.py runs it as a peer of bench/peers.js.

Axis letters: B batch, S sequence, T = B*S tokens, H hidden, D head dimension, N query heads, M key-value heads,
G = N/M, E experts, K choices of a token, F inner width of an expert, V vocabulary. Every matrix is [out, in].

Each forward returns its result and what its backward needs; each backward writes the gradients of its weights into
`g`, which has the names and shapes of the weights `w`, and returns that of its input.
"""

import argparse
import json
import math
import os
import struct
import sys
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Config:
    """Keys as in config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_local_experts: int
    num_experts_per_tok: int
    max_position_embeddings: int
    rope_theta: float = 10000.0
    rope_alpha: float = 1.0
    rms_norm_eps: float = 1e-6
    router_aux_loss_coef: float = 0.01

    @classmethod
    def from_json(cls, values):
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class TrainConfig:
    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup_steps: int = 1000
    total_steps: int = 100_000


# ---------------------------------------------------------------- parameters


def shapes_of(c):
    """Name to shape. What is multiplied by one input is stacked: q|k|v, gate|up, and the experts of a layer."""
    heads, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    shapes = {"embed": (c.vocab_size, c.hidden_size)}
    for i in range(c.num_hidden_layers):
        shapes |= {
            f"{i}.norm1": (c.hidden_size,),
            f"{i}.qkv": (heads + 2 * kv, c.hidden_size),
            f"{i}.o": (c.hidden_size, heads),
            f"{i}.norm2": (c.hidden_size,),
            f"{i}.router": (c.num_local_experts, c.hidden_size),
            f"{i}.gate_up": (c.num_local_experts, 2 * c.intermediate_size, c.hidden_size),
            f"{i}.down": (c.num_local_experts, c.hidden_size, c.intermediate_size),
        }
    return shapes | {"norm": (c.hidden_size,), "lm_head": (c.vocab_size, c.hidden_size)}


def views_of(flat, shapes):
    """Named views into one flat array, so that the optimizer needs one pass over all weights."""
    views, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = flat[at:at + size].reshape(shape)
        at += size
    return views


def public_views(c, w):
    """The checkpoint's names, each with its part of the stacked weights."""
    heads, kv, ffn = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim, c.intermediate_size
    views = {"model.embed_tokens": w["embed"], "model.norm": w["norm"], "lm_head": w["lm_head"]}
    for i in range(c.num_hidden_layers):
        layer, qkv, moe = f"model.layers.{i}", w[f"{i}.qkv"], f"model.layers.{i}.block_sparse_moe"
        views |= {
            f"{layer}.input_layernorm": w[f"{i}.norm1"],
            f"{layer}.self_attn.q_proj": qkv[:heads],
            f"{layer}.self_attn.k_proj": qkv[heads:heads + kv],
            f"{layer}.self_attn.v_proj": qkv[heads + kv:],
            f"{layer}.self_attn.o_proj": w[f"{i}.o"],
            f"{layer}.post_attention_layernorm": w[f"{i}.norm2"],
            f"{moe}.gate": w[f"{i}.router"],
        }
        for e in range(c.num_local_experts):
            views |= {
                f"{moe}.experts.{e}.w1": w[f"{i}.gate_up"][e, :ffn],
                f"{moe}.experts.{e}.w3": w[f"{i}.gate_up"][e, ffn:],
                f"{moe}.experts.{e}.w2": w[f"{i}.down"][e],
            }
    return {f"{name}.weight": view for name, view in views.items()}


# ---------------------------------------------------------------- layers


def rms_norm(x, gamma, eps):
    """y = gamma x / sqrt(mean(x^2) + eps), row by row."""
    inv = 1 / np.sqrt(np.einsum("th,th->t", x, x) / x.shape[1] + np.float32(eps))[:, None]
    normed = x * inv
    return normed * gamma, (normed, inv)


def rms_norm_backward(dy, kept, gamma, d_gamma):
    normed, inv = kept
    np.einsum("th,th->h", dy, normed, out=d_gamma)
    d = dy * gamma
    d -= normed * (np.einsum("th,th->t", d, normed) / d.shape[1])[:, None]
    d *= inv
    return d


def softmax_(x):
    """Softmax over the last axis, in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def rope_factors(c):
    """cos + i sin of every angle, complex [positions, 1, D/2]: turning a pair is one complex product."""
    d = c.head_dim
    base = c.rope_theta * (c.rope_alpha ** (d / (d - 2)) if c.rope_alpha > 1 else 1)
    angles = np.outer(np.arange(c.max_position_embeddings), base ** (-np.arange(0, d, 2) / d))
    return np.exp(1j * angles).astype(np.complex64)[:, None]


def attention(x, w, i, c, batch, turn, mask):
    """Causal grouped-query attention. The G query heads of a key-value head are stacked along the rows."""
    n, m, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    seq = len(x) // batch
    qkv = (x @ w[f"{i}.qkv"].T).reshape(batch, seq, n + 2 * m, d)
    qkv.view(np.complex64)[:, :, :n + m] *= turn
    q = qkv[:, :, :n].reshape(batch, seq, m, n // m, d).transpose(0, 2, 3, 1, 4).reshape(batch, m, -1, d)
    k = qkv[:, :, n:n + m].transpose(0, 2, 1, 3)
    v = qkv[:, :, n + m:].transpose(0, 2, 1, 3)
    scores = q @ k.swapaxes(2, 3)
    by_head = scores.reshape(batch, n, seq, seq)
    by_head *= np.float32(d ** -0.5)
    by_head += mask
    p = softmax_(scores)
    heads = (p @ v).reshape(batch, n, seq, d).transpose(0, 2, 1, 3).reshape(len(x), n * d)
    return heads @ w[f"{i}.o"].T, (x, q, k, v, p, heads)


def attention_backward(dy, kept, w, g, i, c, batch, turn):
    x, q, k, v, p, heads = kept
    n, m, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    seq = len(x) // batch
    np.matmul(dy.T, heads, out=g[f"{i}.o"])
    d_heads = dy @ w[f"{i}.o"]
    d_out = d_heads.reshape(batch, seq, n, d).transpose(0, 2, 1, 3).reshape(batch, m, -1, d)
    # sum_j p_ij dp_ij is the dot product of the output row with its gradient.
    dots = np.einsum("tnd,tnd->tn", d_heads.reshape(-1, n, d), heads.reshape(-1, n, d))
    d_scores = d_out @ v.swapaxes(2, 3)
    d_scores -= dots.reshape(batch, seq, n).transpose(0, 2, 1).reshape(batch, m, -1, 1)
    d_scores *= p
    d_scores *= np.float32(d ** -0.5)
    d_qkv = np.empty((batch, seq, n + 2 * m, d), np.float32)
    d_qkv[:, :, :n] = (d_scores @ k).reshape(batch, n, seq, d).transpose(0, 2, 1, 3)
    d_qkv[:, :, n:n + m] = (d_scores.swapaxes(2, 3) @ q).transpose(0, 2, 1, 3)
    d_qkv[:, :, n + m:] = (p.swapaxes(2, 3) @ d_out).transpose(0, 2, 1, 3)
    d_qkv.view(np.complex64)[:, :, :n + m] *= turn.conj()
    d_qkv = d_qkv.reshape(len(x), -1)
    np.matmul(d_qkv.T, x, out=g[f"{i}.qkv"])
    return d_qkv @ w[f"{i}.qkv"]


def route(x, router, k):
    """The K most probable experts of each token, ties to the lower, with renormalised weights."""
    probs = softmax_(x @ router.T)
    index = np.argsort(-probs, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(probs, index, axis=1)
    total = weights.sum(axis=1, keepdims=True)
    weights /= total
    return probs, index, weights, total


def swiglu(gate_up):
    """silu(gate) * up, of [rows, 2F] stacked as gate|up."""
    gate, up = np.split(gate_up, 2, axis=1)
    with np.errstate(over="ignore"):  # of a very negative gate the sigmoid is 0, as it should be
        sigmoid = 1 / (1 + np.exp(-gate))
    silu = gate * sigmoid
    return silu * up, (up, sigmoid, silu)


def swiglu_backward(d_act, kept):
    up, sigmoid, silu = kept
    d_gate_up = np.empty((len(up), 2 * up.shape[1]), np.float32)
    d_gate, d_up = np.split(d_gate_up, 2, axis=1)
    np.multiply(d_act, silu, out=d_up)
    # silu' = sigmoid + silu (1 - sigmoid)
    np.subtract(1, sigmoid, out=d_gate)
    d_gate *= silu
    d_gate += sigmoid
    d_gate *= up
    d_gate *= d_act
    return d_gate_up


def experts_matmul(x, w, starts, transpose):
    """Rows of expert e, in starts[e]..starts[e+1], times its matrix w[e] (transposed, or as it is)."""
    out = np.empty((len(x), w.shape[1 if transpose else 2]), np.float32)
    for e, matrix in enumerate(w):
        rows = slice(starts[e], starts[e + 1])
        np.matmul(x[rows], matrix.T if transpose else matrix, out=out[rows])
    return out


def experts_gradient(dy, x, starts, out):
    """Of each expert dy^T x over its rows; zero for an expert without any."""
    for e in range(len(out)):
        rows = slice(starts[e], starts[e + 1])
        np.matmul(dy[rows].T, x[rows], out=out[e])


def moe(x, w, i, c):
    """Every token goes to its K experts, whatever their load: assignments sorted by expert, one matmul an expert."""
    k, e = c.num_experts_per_tok, c.num_local_experts
    probs, index, weights, total = route(x, w[f"{i}.router"], k)
    counts = np.bincount(index.ravel(), minlength=e)
    starts = np.concatenate(([0], np.cumsum(counts))).tolist()
    order = np.argsort(index.ravel(), kind="stable")
    slots = np.empty_like(order)
    slots[order] = np.arange(len(order))
    slots = slots.reshape(-1, k)
    gathered = x[order // k]
    act, kept = swiglu(experts_matmul(gathered, w[f"{i}.gate_up"], starts, True))
    out = experts_matmul(act, w[f"{i}.down"], starts, True)[slots]
    y = np.einsum("tk,tkh->th", weights, out)
    # alpha E sum_e f_e P_e
    aux = c.router_aux_loss_coef * e * float(counts @ probs.mean(axis=0)) / index.size
    routing = (probs, index, weights, total, counts, starts, order, slots)
    return y, aux, (x, routing, gathered, act, kept, out)


def moe_backward(dy, kept_all, w, g, i, c):
    x, (_, _, weights, _, _, starts, order, slots), gathered, act, kept, out = kept_all
    k = c.num_experts_per_tok
    d_out = dy[order // k] * weights.ravel()[order][:, None]
    experts_gradient(d_out, act, starts, g[f"{i}.down"])
    d_gate_up = swiglu_backward(experts_matmul(d_out, w[f"{i}.down"], starts, False), kept)
    experts_gradient(d_gate_up, gathered, starts, g[f"{i}.gate_up"])
    dx = experts_matmul(d_gate_up, w[f"{i}.gate_up"], starts, False)[slots].sum(axis=1)
    d_logits = route_backward(np.einsum("th,tkh->tk", dy, out), kept_all[1], c)
    np.matmul(d_logits.T, x, out=g[f"{i}.router"])
    dx += d_logits @ w[f"{i}.router"]
    return dx


def route_backward(d_weights, routing, c):
    """Through the renormalisation, the balance loss and the softmax to the router's logits."""
    probs, index, weights, total, counts, *_ = routing
    tokens, experts = probs.shape
    aux_scale = c.router_aux_loss_coef * experts / (tokens * index.size)
    d_probs = np.broadcast_to((aux_scale * counts).astype(np.float32), probs.shape).copy()
    d_chosen = (d_weights - np.einsum("tk,tk->t", d_weights, weights)[:, None]) / total
    # The K choices of a token differ, so no entry is added to twice.
    d_probs[np.arange(tokens)[:, None], index] += d_chosen
    d_probs -= np.einsum("te,te->t", probs, d_probs)[:, None]
    d_probs *= probs
    return d_probs


# ---------------------------------------------------------------- model


class Model:
    def __init__(self, config, seed):
        """Normal initial weights of deviation sqrt(2 / fan_in); norms start at one."""
        self.config = config
        self.shapes = shapes_of(config)
        size = sum(math.prod(shape) for shape in self.shapes.values())
        self.flat = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
        self.w = views_of(self.flat, self.shapes)
        for view in self.w.values():
            if view.ndim == 1:
                view.fill(1)
            else:
                view *= np.float32(math.sqrt(2 / view.shape[-1]))
        self.turn = rope_factors(config)

    def forward(self, ids, keep=None):
        """Logits [T, V] of ids [B, S], and the balance loss. `keep` collects what `backward` needs."""
        c, w = self.config, self.w
        batch, seq = ids.shape
        turn = self.turn[:seq]
        mask = np.triu(np.full((seq, seq), -np.inf, np.float32), 1)
        x, aux = w["embed"][ids.ravel()], 0.0
        for i in range(c.num_hidden_layers):
            normed, norm1 = rms_norm(x, w[f"{i}.norm1"], c.rms_norm_eps)
            y, kept_attention = attention(normed, w, i, c, batch, turn, mask)
            y += x
            normed, norm2 = rms_norm(y, w[f"{i}.norm2"], c.rms_norm_eps)
            x, aux_layer, kept_moe = moe(normed, w, i, c)
            x += y
            aux += aux_layer
            if keep is not None:
                keep.append((norm1, kept_attention, norm2, kept_moe))
        normed, norm = rms_norm(x, w["norm"], c.rms_norm_eps)
        if keep is not None:
            keep.append((normed, norm))
        return normed @ w["lm_head"].T, aux

    def backward(self, d_logits, ids, keep, g):
        c, w = self.config, self.w
        batch, seq = ids.shape
        normed, norm = keep.pop()
        np.matmul(d_logits.T, normed, out=g["lm_head"])
        d = rms_norm_backward(d_logits @ w["lm_head"], norm, w["norm"], g["norm"])
        for i in reversed(range(c.num_hidden_layers)):
            norm1, kept_attention, norm2, kept_moe = keep.pop()
            d_moe = moe_backward(d, kept_moe, w, g, i, c)
            d += rms_norm_backward(d_moe, norm2, w[f"{i}.norm2"], g[f"{i}.norm2"])
            d_attention = attention_backward(d, kept_attention, w, g, i, c, batch, self.turn[:seq])
            d += rms_norm_backward(d_attention, norm1, w[f"{i}.norm1"], g[f"{i}.norm1"])
        g["embed"].fill(0)
        np.add.at(g["embed"], ids.ravel(), d)


def cross_entropy_(logits, targets):
    """Mean of -log softmax(logits)[target]; turns the logits into their gradient."""
    rows = np.arange(len(logits))
    p = softmax_(logits)
    loss = -float(np.log(p[rows, targets]).mean())
    p[rows, targets] -= 1
    p /= len(p)
    return loss, p


# ---------------------------------------------------------------- training


class Trainer:
    """AdamW with decoupled decay, clipping by the global norm, linear warmup and a cosine down to a tenth."""

    BLOCK = 1 << 16  # entries updated together, so that the passes over them find them in the cache

    def __init__(self, model, train=TrainConfig()):
        self.model, self.train, self.steps = model, train, 0
        self.grad, self.m, self.v = (np.zeros_like(model.flat) for _ in range(3))
        self.g = views_of(self.grad, model.shapes)
        self.scratch = np.empty((2, self.BLOCK), np.float32)

    def lr_at(self, t):
        c = self.train
        if t <= c.warmup_steps:
            return c.lr * t / c.warmup_steps
        progress = min(1, (t - c.warmup_steps) / (c.total_steps - c.warmup_steps))
        return c.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))

    def loss_and_gradients(self, ids, targets):
        """(loss, logits' cross-entropy, balance loss, norm of the gradients)"""
        keep = []
        logits, aux = self.model.forward(ids, keep)
        cross_entropy, d_logits = cross_entropy_(logits, targets.ravel())
        self.model.backward(d_logits, ids, keep, self.g)
        norm = math.sqrt(float(self.grad @ self.grad))
        return cross_entropy + aux, cross_entropy, aux, norm

    def step(self, ids, targets):
        losses = self.loss_and_gradients(ids, targets)
        norm = losses[-1]
        self.update(min(1, self.train.clip / norm) if norm > 0 else 1)
        return losses

    def update(self, grad_scale):
        self.steps += 1
        c, lr, theta = self.train, self.lr_at(self.steps), self.model.flat
        root2 = math.sqrt(1 - c.beta2 ** self.steps)
        rate = lr * root2 / (1 - c.beta1 ** self.steps)
        for at in range(0, len(theta), self.BLOCK):
            p, m, v, grad = (a[at:at + self.BLOCK] for a in (theta, self.m, self.v, self.grad))
            a, b = self.scratch[:, :len(p)]
            np.multiply(grad, (1 - c.beta1) * grad_scale, out=a)
            m *= c.beta1
            m += a
            np.multiply(grad, grad, out=a)
            a *= (1 - c.beta2) * grad_scale ** 2
            v *= c.beta2
            v += a
            np.sqrt(v, out=b)
            b += c.eps * root2
            np.divide(m, b, out=a)
            a *= rate
            p *= 1 - lr * c.weight_decay
            p -= a


# ---------------------------------------------------------------- check


def read_safetensors(path):
    """Name to array, of the types that fixtures have."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    types = {"F32": "<f4", "I64": "<i8"}
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*info["data_offsets"])], types[info["dtype"]]).reshape(info["shape"])
        for name, info in header.items()
    }


def check(folder):
    """Prints the largest deviations from a fixture's float64 figures; returns whether all are within bounds."""
    def load(name):
        with open(os.path.join(folder, name)) as file:
            return json.load(file)
    expected = read_safetensors(os.path.join(folder, "tensors.safetensors"))
    steps, train = load("train.json")["steps"], TrainConfig(**load("train.json")["train_config"])
    model = Model(Config.from_json(load("config.json")), seed=0)
    public = public_views(model.config, model.w)
    for name, values in read_safetensors(os.path.join(folder, "model.safetensors")).items():
        public[name][...] = values
    ids, targets = expected["input_ids"], expected["targets"]
    trainer = Trainer(model, train)
    logits = model.forward(ids)[0].reshape(expected["logits"].shape)
    trainer.loss_and_gradients(ids, targets)
    gradients = public_views(model.config, trainer.g)
    wrong = {
        "logits": deviation(logits, expected["logits"]),
        "gradients": max(deviation(grad, expected[f"grad.{name}"]) for name, grad in gradients.items()),
    }
    for want in steps:
        lr = trainer.lr_at(trainer.steps + 1)
        loss, _, _, norm = trainer.step(ids, targets)
        for key, value in (("lr", lr), ("loss", loss), ("grad_norm", norm)):
            wrong[key] = max(wrong.get(key, 0), abs(value - want[key]) / abs(want[key]))
    print(json.dumps(wrong))
    # Sums of up to a few hundred float32 products, through a few layers: some hundred roundings of 6e-8.
    return all(value < 3e-5 for value in wrong.values())


def deviation(values, expected):
    """Largest difference over the largest magnitude."""
    return float(np.abs(values - expected).max() / np.abs(expected).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="a fixture: config.json, model.safetensors, tensors.safetensors, train.json")
    sys.exit(0 if check(parser.parse_args().folder) else 1)


if __name__ == "__main__":
    main()
