"""The peer of bench/peers.js that trains Hugging Face's Mixtral, in one form: mixtral_peer.py eager|compile."""

import os
import sys

import torch
import transformers

from serving import batch_of, serve
from torch_model import TrainStep, fastest

# batched_mm copies an expert's weights for each token: tens of GB.
EXPERTS = ["grouped_mm", "eager"]


def prepare(scenario, compiled):
    model = transformers.MixtralForCausalLM.from_pretrained(
        scenario["weights"], dtype=torch.float32, attn_implementation="sdpa").train()
    config, bfloat16 = model.config, scenario["precision"] == "bfloat16"
    ids, targets = map(torch.tensor, batch_of(scenario["batch"], scenario["seq"], config.vocab_size))
    x = torch.randn(*ids.shape, config.hidden_size)

    def pass_of_experts(way):
        model.set_experts_implementation(way)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = model.model.layers[0].mlp(x)
        y.float().square().mean().backward()
    way = fastest(EXPERTS[:1] if compiled else EXPERTS, pass_of_experts)
    model.set_experts_implementation(way)
    model.zero_grad()
    if compiled:
        for layer in model.model.layers:
            layer.compile(dynamic=False)

    def loss_of():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
    return TrainStep(model, loss_of)


def main():
    compiled = sys.argv[1] == "compile"
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    version = f"{transformers.__version__}, PyTorch {torch.__version__}"
    hello = {"name": "Mixtral of transformers", "version": version, "threads": torch.get_num_threads()}
    serve(hello, lambda scenario: prepare(scenario, compiled))


if __name__ == "__main__":
    main()
