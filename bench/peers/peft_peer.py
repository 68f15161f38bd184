"""The peer of bench/finetune.js: Hugging Face's peft on transformers and PyTorch, with the adapters that ours begins with."""

import os

import peft
import torch
import transformers
from peft import PeftModel

from serving import batch_of, serve

BETAS, CLIP = (0.9, 0.95), 1.0


def prepare(scenario):
    base = transformers.AutoModelForCausalLM.from_pretrained(
        scenario["base"], dtype=torch.float32, attn_implementation="sdpa",
        experts_implementation="grouped_mm")  # eager took as long, batched_mm more and 6 GB
    model = PeftModel.from_pretrained(base, scenario["adapter"], is_trainable=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=scenario["lr"], betas=BETAS, weight_decay=0, fused=True)
    rows = batch_of(scenario["batch"], scenario["seq"], base.config.vocab_size)
    ids, targets = map(torch.tensor, rows)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        return loss.item()
    return step


def main():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    versions = f"{peft.__version__}, transformers {transformers.__version__}, PyTorch {torch.__version__}"
    serve({"name": "peft", "version": versions, "threads": torch.get_num_threads()}, prepare)


if __name__ == "__main__":
    main()
