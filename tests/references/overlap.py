"""Writes overlap.json: BLEU and chrF by sacrebleu, ROUGE-L by rouge-score, which tests/overlap.rs compares with.

    python tests/references/overlap.py

Needs sacrebleu and rouge-score. Texts are drawn by a fixed seed from the words and marks below, so that tokenizers have
something to disagree about; references are the texts with words dropped, doubled, exchanged and replaced.
"""

import json
import random
from pathlib import Path

import sacrebleu
from rouge_score import rouge_scorer

WORDS = """the a cat sat on mat Restaurant opens at 7.30 and costs $12.50, 1,000 people well-known state-of-the-art 3-4 don't it's "quoted"
(maybe) e.g. U.S. 50% naïve café Zürich über 北京 烤鸭 😀 end. stop! really? yes; no: x/y &amp; <b> [1] A_B C++ #tag @home""".split()


def draw(rng):
    return [rng.choice(WORDS) for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 21, 40]))]


def revised(rng, words):
    out = []
    for word in words:
        lot = rng.random()
        if lot < 0.1:
            continue
        out.append(rng.choice(WORDS) if lot < 0.25 else word)
        if lot > 0.92:
            out.append(word)
    if len(out) > 2 and rng.random() < 0.3:
        i = rng.randrange(len(out) - 1)
        out[i], out[i + 1] = out[i + 1], out[i]
    return out


def main():
    rng = random.Random(0)
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    rows = []
    for i in range(200):
        words = draw(rng)
        other = draw(rng) if i % 10 == 0 else revised(rng, words)
        text, reference = " ".join(words), " ".join(other)
        rows.append({
            "text": text,
            "reference": reference,
            "bleu": sacrebleu.sentence_bleu(text, [reference], use_effective_order=True).score / 100,
            "chrf": sacrebleu.sentence_chrf(text, [reference]).score / 100,
            "rouge_l": scorer.score(reference, text)["rougeL"].fmeasure,
        })
    versions = {"sacrebleu": sacrebleu.__version__, "rouge-score": "0.1.2"}
    out = {"versions": versions, "rows": rows}
    Path(__file__).with_name("overlap.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
