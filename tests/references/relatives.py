"""Reference numbers for the reward models of TPPO and of Fine-Grained RLHF, and for what their rewards become in PPO.

Written from the formulas in docs/DETAILS.md with numpy alone, in float64; gradients are central differences.
    python3 tests/references/relatives.py > tests/references/relatives.json
"""

import json

import numpy as np

rng = np.random.default_rng(7)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gradient(f, x, step=1e-5):
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        result[i] = (f(up) - f(down)) / (2 * step)
    return result


def tppo(name, lengths, weights, lambdas):
    n, r = len(lengths), max(lengths)
    logits = np.round(rng.normal(size=(n, r, 3)) * 1.5, 3)
    scores = [[int(rng.integers(-1, 3)) for _ in range(length)] for length in lengths]
    sentences = [int(rng.integers(0, 3)) for _ in lengths]
    labelled = [(i, t, y) for i, row in enumerate(scores) for t, y in enumerate(row) if y >= 0]
    if weights is None:
        counts = [sum(y == c for _, _, y in labelled) for c in range(3)]
        seen = sum(count > 0 for count in counts)
        used = [len(labelled) / (seen * max(count, 1)) for count in counts]
    else:
        used = weights

    def loss(x):
        log_p = log_softmax(x)
        local = sum(-used[y] * log_p[i, t, y] for i, t, y in labelled) / sum(used[y] for _, _, y in labelled)
        expected = np.exp(log_p) @ np.arange(3.0)
        means = np.array([expected[i, :length].mean() for i, length in enumerate(lengths)])
        return lambdas[0] * local + lambdas[1] * ((means - sentences) ** 2).mean()

    rewards = np.exp(log_softmax(logits)) @ np.arange(3.0) - 1.0
    rows = [rewards[i, :length].tolist() for i, length in enumerate(lengths)]
    return {
        "name": name, "logits": logits.tolist(), "scores": scores, "sentences": sentences, "class_weights": weights,
        "lambda_local": lambdas[0], "lambda_global": lambdas[1], "loss": float(loss(logits)),
        "gradient": gradient(loss, logits).tolist(), "rewards": rows, "score": [float(np.mean(row)) for row in rows],
    }


def spans(name, lengths, ends, clean):
    n, r = len(lengths), max(lengths)
    logits = np.round(rng.normal(size=(n, r)) * 2, 3)
    errors = [[bool(rng.integers(0, 2)) for _ in row] for row in ends]
    total = sum(len(row) for row in ends)

    def loss(x):
        terms = [np.log1p(np.exp(-(1 if wrong else -1) * x[i, t]))
                 for i in range(n) for t, wrong in zip(ends[i], errors[i])]
        return sum(terms) / total

    p = sigmoid(logits)
    paid = [[float(clean * (1 - p[i, t]) - p[i, t]) if t in ends[i] else 0.0 for t in range(length)]
            for i, length in enumerate(lengths)]
    return {
        "name": name, "logits": logits.tolist(), "lengths": lengths, "ends": ends, "errors": errors, "clean": clean,
        "loss": float(loss(logits)), "gradient": gradient(loss, logits).tolist(), "rewards": paid,
    }


def summed(name, weights, penalty, response, samples):
    """Weighted sum of models, divided by the deviation of its return on samples, less what tokens past their median cost."""
    tables = np.round(rng.uniform(-1, 1, size=(len(weights), 12)), 3)
    raw = np.array(weights) @ tables
    scale = float(np.std([raw[ids].sum() for ids in samples], ddof=1))
    free = sorted(len(ids) for ids in samples)[(len(samples) - 1) // 2]
    reward = raw[response] / scale
    reward[free:] -= penalty
    return {"name": name, "tables": tables.tolist(), "weights": weights, "penalty": penalty, "response": response,
            "samples": samples, "scale": scale, "free_tokens": free, "rewards": reward.tolist()}


print(json.dumps({
    "tppo": [
        tppo("equal classes", [4, 6, 3], None, [0.5, 0.5]),
        tppo("given weights", [5, 2], [2.0, 1.0, 0.5], [0.6, 0.4]),
        tppo("tokens alone", [3, 3], None, [1.0, 0.0]),
        tppo("the whole alone", [3, 4], None, [0.0, 1.0]),
    ],
    "spans": [
        spans("errors cost", [5, 3], [[1, 4], [2]], 0.0),
        spans("clean spans pay", [4, 6], [[3], [0, 2, 5]], 1.0),
    ],
    "summed": [
        summed("two categories", [0.3, 1.2], 0.25, [2, 7, 7, 9, 3, 1], [[4, 5, 1], [8, 9, 10, 2, 1], [3, 7, 7, 1]]),
        summed("one model, no penalty", [1.0], 0.0, [5, 6, 1], [[2, 1], [3, 4, 1]]),
    ],
}, indent=1))
