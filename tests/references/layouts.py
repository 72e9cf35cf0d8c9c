"""Preference data in the layouts and files in which it is passed around, as Hugging Face's `datasets` writes them.

    python layouts.py FOLDER     # FOLDER/NAME.{jsonl,parquet,csv,...} and folders
"""

import sys
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict
from pyarrow import feather

N = 12


def said(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def rows(make):
    return Dataset.from_list([make(i) for i in range(N)])


ask = lambda i: ("user", f"question {i}?")
hh = lambda i, answer: f"\n\nHuman: hi {i}\n\nAssistant: yes?\n\nHuman: go on\n\nAssistant: {answer}"

LAYOUTS = {
    # TRL's types, plain and conversational.
    "language_modeling": lambda i: {"text": f"the sky {i} is blue."},
    "language_modeling-talk": lambda i: {"messages": said(ask(i), ("assistant", f"answer {i}"))},
    "prompt_only": lambda i: {"prompt": f"question {i}?"},
    "prompt_only-talk": lambda i: {"prompt": said(ask(i))},
    "prompt_completion": lambda i: {"prompt": f"question {i}?", "completion": f" answer {i}"},
    "prompt_completion-talk": lambda i: {"prompt": said(ask(i)), "completion": said(("assistant", f"answer {i}"))},
    "preference": lambda i: {"prompt": f"question {i}?", "chosen": f" good {i}", "rejected": f" bad {i}"},
    "preference-implicit": lambda i: {"chosen": f"question {i}? good", "rejected": f"question {i}? bad"},
    "preference-talk": lambda i: {"prompt": said(ask(i)), "chosen": said(("assistant", f"good {i}")),
                                  "rejected": said(("assistant", f"bad {i}"))},
    "preference-implicit-talk": lambda i: {"chosen": said(ask(i), ("assistant", f"good {i}")),
                                           "rejected": said(ask(i), ("assistant", f"bad {i}"))},
    "unpaired_preference": lambda i: {"prompt": f"question {i}?", "completion": f" answer {i}", "label": i % 3 > 0},
    "unpaired_preference-talk": lambda i: {"prompt": said(ask(i)), "completion": said(("assistant", f"answer {i}")),
                                           "label": i % 3 > 0},
    "stepwise": lambda i: {"prompt": f"question {i}?", "completions": [f"step {i}.", "step two."],
                           "labels": [True, i % 2 == 0]},
    # Datasets of their own.
    "alpaca_farm": lambda i: {"instruction": f"do {i}", "input": "" if i % 2 else "with this", "output_1": f"one {i}",
                              "output_2": f"two {i}", "preference": 1 + i % 2},
    "alpaca_eval": lambda i: {"dataset": "helpful_base", "instruction": f"do {i}", "output": f"done {i}",
                              "generator": "text_davinci_003"},
    "hh_rlhf": lambda i: {"chosen": hh(i, f" good {i}"), "rejected": hh(i, f" bad {i}")},
    # UltraFeedback binarised, which has the conversation three times.
    "preference-ultrafeedback": lambda i: {
        "prompt": f"question {i}?", "prompt_id": f"{i:032x}", "chosen": said(ask(i), ("assistant", f"good {i}")),
        "rejected": said(ask(i), ("assistant", f"bad {i}")), "messages": said(ask(i), ("assistant", f"good {i}")),
        "score_chosen": 8.5, "score_rejected": 4.0},
    # UltraChat: the prompt is also the first message.
    "language_modeling-ultrachat": lambda i: {
        "prompt": f"question {i}?", "prompt_id": f"{i:032x}",
        "messages": said(ask(i), ("assistant", f"answer {i}"), ("user", "more"), ("assistant", "no"))},
    "qa_feedback": lambda i: {
        "question": f"what is {i}?", "passages": [["Numbers", f"{i} is one.", "Two."]], "gold": f"it is {i}",
        **{f"prediction {n}": f"it may be {i + n}" for n in range(1, 5)}, "preference": [2, 0, 1, 1, 0, 2],
        "feedback": {"errors": [{"error type": "Wrong-Grounding", "explanation": "", "start": 3, "end": 6}],
                     "missing-info": [{"sentence-id": 1, "passage-id": 0}], "corrected-prediction": f"it is {i}"}},
    "revised": lambda i: {"prompt": f"question {i}?", "chosen": f" good {i}", "rejected": f" bad {i}",
                          "revised": f" not bad {i}"},
}


def write(folder):
    for name, make in LAYOUTS.items():
        data = rows(make)
        data.to_json(folder / f"{name}.jsonl")
        data.to_json(folder / f"{name}.json", lines=False)
        data.to_parquet(folder / f"{name}.parquet")
        data.to_json(folder / f"{name}.jsonl.gz", compression="gzip")
        with pa.CompressedOutputStream(str(folder / f"{name}.jsonl.zst"), "zstd") as out:
            out.write((folder / f"{name}.jsonl").read_bytes())
        feather.write_feather(data.data.table, str(folder / f"{name}.feather"))
        data.save_to_disk(folder / f"{name}-saved")
        if not any(isinstance(value, list) for value in data[0].values()):
            data.to_csv(folder / f"{name}.csv", index=False)
            data.to_csv(folder / f"{name}.tsv", index=False, sep="\t")
    both = DatasetDict(train=rows(LAYOUTS["preference"]), test=rows(LAYOUTS["preference"]).select(range(3)))
    both.save_to_disk(folder / "splits")
    (folder / "repository/data").mkdir(parents=True)
    for split, part in both.items():
        part.to_parquet(folder / f"repository/data/{split}-00000-of-00001.parquet")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
