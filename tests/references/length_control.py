"""Writes length_control.json: length-controlled fits by scikit-learn, which tests/winrate.rs compares with.

    python tests/references/length_control.py [FOLDER WITH ALPACAEVAL'S FILES]

Needs numpy and scikit-learn. Without the folder, the numbers of its files are kept as they are. A fit is AlpacaEval's
`length_controlled_noreg`: L1-penalised logistic regression without an intercept on tanh of the standardised difference of
lengths, the difficulty and a constant, every row given twice (won, lost) with the share of the win as its weight, the
strength chosen by log-loss on five folds. Two things differ: row i of the decided rows is in fold i mod 5 (how GroupKFold
cuts equal groups is up to numpy's sort), and the solver runs to convergence.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).parent / "length_control.json"
STRENGTHS = np.logspace(-4, 4, 10)


def fit_once(x, p, strength):
    model = LogisticRegression(
        C=strength, penalty="l1", solver="liblinear", fit_intercept=False, tol=1e-13, max_iter=1_000_000, random_state=0
    )
    twice = np.concatenate([x, x])
    won = np.concatenate([np.ones(len(p)), np.zeros(len(p))])
    model.fit(twice, won, sample_weight=np.concatenate([p, 1 - p]))
    return model.coef_[0]


def log_loss(x, p, weights):
    q = np.clip(1 / (1 + np.exp(-x @ weights)), 1e-15, 1 - 1e-15)
    return -np.mean(p * np.log(q) + (1 - p) * np.log(1 - q))


def fit(share, lengths, difficulty):
    share = np.array([np.nan if s is None else s for s in share], dtype=float)
    lengths, difficulty = np.array(lengths, dtype=float), np.array(difficulty, dtype=float)
    difference = lengths[:, 0] - lengths[:, 1]
    x = np.stack([np.tanh(difference / difference.std(ddof=1)), difficulty, np.ones(len(share))], axis=1)
    known = ~np.isnan(share)
    xk, pk = x[known], share[known]
    fold = np.arange(len(pk)) % 5
    losses = [
        np.mean([log_loss(xk[fold == k], pk[fold == k], fit_once(xk[fold != k], pk[fold != k], c)) for k in range(5)])
        for c in STRENGTHS
    ]
    strength = STRENGTHS[int(np.argmin(losses))]
    weights = fit_once(xk, pk, strength)
    x[:, 0] = 0
    predicted = 100 / (1 + np.exp(-x @ weights))
    return {
        "strength": float(strength),
        "weights": weights.tolist(),
        "length_controlled_winrate": float(predicted.mean()),
        "lc_standard_error": float(predicted.std(ddof=1) / np.sqrt(len(predicted))),
    }


def synthetic():
    random = np.random.default_rng(5)
    rows = []
    for i in range(160):
        lengths = random.integers(50, 400, size=2).tolist()
        difficulty = round(float(random.normal()), 3)
        logit = -1.2 * np.tanh((lengths[0] - lengths[1]) / 150) + 0.7 * difficulty - 0.4 + random.normal()
        share = round(float(1 / (1 + np.exp(-2 * logit))), 3)
        rows.append([None if i % 23 == 7 else share, *lengths, difficulty])
    return rows


def published(folder):
    with open(folder / "instruction_difficulty.csv") as file:
        difficulty = {int(row["instruction_index"]): float(row["instruction_difficulty"]) for row in csv.DictReader(file)}
    cases = {}
    for path in sorted((folder / "cases").glob("weighted_*.json")):
        rows = json.loads(path.read_text())
        if rows[0]["generator_1"] == rows[0]["generator_2"]:
            continue
        cases[path.stem] = fit(
            [row["preference"] - 1 for row in rows],
            [[row["output_1_chars"], row["output_2_chars"]] for row in rows],
            [difficulty[row["instruction_index"]] for row in rows],
        )
    return cases


def main():
    rows = synthetic()
    result = {
        "made_with": f"scikit-learn {sklearn.__version__}, numpy {np.__version__}",
        "synthetic": {
            "columns": ["share", "baseline_length", "model_length", "difficulty"],
            "rows": rows,
            "expected": fit([r[0] for r in rows], [r[1:3] for r in rows], [r[3] for r in rows]),
        },
    }
    if len(sys.argv) > 1:
        result["published"] = published(Path(sys.argv[1]))
    else:
        result["published"] = json.loads(HERE.read_text())["published"]
    lines = json.dumps(result, indent=1)
    HERE.write_text(lines + "\n")


main()
