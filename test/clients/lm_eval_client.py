"""EleutherAI's lm-evaluation-harness against a server, on tasks of this file:

    lm_eval_client.py <url of /v1> <model> <folder of its tokenizer> <JSON: context, continuation, choices, question>

Prints one JSON object: the log-likelihood of the continuation, those of the choices, and a generated answer.
"""
import json
import os
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import lm_eval
import yaml
from lm_eval.tasks import TaskManager

url, model, tokenizer, given = sys.argv[1:]
data = json.loads(given)
folder = tempfile.mkdtemp()


def task(name, row, **fields):
    rows = os.path.join(folder, f"{name}.jsonl")
    with open(rows, "w") as file:
        file.write(json.dumps(row) + "\n")
    config = {"task": name, "dataset_path": "json", "test_split": "test", "dataset_kwargs": {"data_files": {"test": rows}}}
    with open(os.path.join(folder, f"{name}.yaml"), "w") as file:
        yaml.safe_dump({**config, **fields}, file)


choice = {"output_type": "multiple_choice", "target_delimiter": "", "doc_to_text": "{{context}}", "doc_to_target": "{{answer}}"}
scored = {"metric_list": [{"metric": "acc"}]}
task("whole", {"context": data["context"], "choices": [data["continuation"], " no"], "answer": 0}, doc_to_choice="choices", **choice, **scored)
task("chosen", {"context": data["context"], "choices": data["choices"], "answer": 0}, doc_to_choice="choices", **choice, **scored)
task(
    "generated",
    {"context": data["context"]},
    output_type="generate_until",
    doc_to_text="{{context}}",
    doc_to_target="{{context}}",
    target_delimiter="",
    generation_kwargs={"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0},
    metric_list=[{"metric": "bypass"}],
)
arguments = {"model": model, "base_url": f"{url}/completions", "tokenizer": tokenizer, "max_length": 256, "num_concurrent": 2}
results = lm_eval.simple_evaluate(
    model="local-completions",
    model_args=arguments,
    tasks=["whole", "chosen", "generated"],
    task_manager=TaskManager(include_path=folder, include_defaults=False),
    log_samples=True,
    bootstrap_iters=0,
)
samples = {name: rows[0]["filtered_resps"] for name, rows in results["samples"].items()}
print(
    json.dumps(
        {
            "whole": float(samples["whole"][0][0]),
            "chosen": [float(pair[0]) for pair in samples["chosen"]],
            "generated": samples["generated"][0],
        }
    )
)
