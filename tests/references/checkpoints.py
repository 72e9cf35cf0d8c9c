"""Tiny random checkpoints of many families and configurations, with the numbers that `transformers` computes from them;
and the numbers that it computes from folders that `runner` wrote.

    python checkpoints.py make FOLDER     # FOLDER/NAME/{config.json,model.safetensors,...,expected.json}
    python checkpoints.py read REQUESTS   # JSON lines {"model", "adapter"?, "kind", "ids"} -> JSON lines of numbers

Weights are random, norms and biases too, so that one that is ignored shows.
"""

import json
import logging
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

torch.set_num_threads(2)
torch.set_grad_enabled(False)
logging.disable(logging.WARNING)

VOCAB = 61
SMALL = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
LANGUAGE, SEQUENCE, TOKEN = "language", "sequence", "token"
CLASSES = {LANGUAGE: AutoModelForCausalLM, SEQUENCE: AutoModelForSequenceClassification,
           TOKEN: AutoModelForTokenClassification}


def llama(**more):
    return LlamaConfig(**{**SMALL, "num_key_value_heads": 2, **more})


def configurations():
    """Name -> (config, kind, dtype, how it is stored)."""
    rope = lambda **table: dict(rope_scaling={"rope_theta": 10000.0, **table})
    phi_long = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.4], "long_factor": [1.5, 2.0, 4.0, 8.0]}
    qwen = dict(SMALL, num_key_value_heads=2)
    gpt2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    neox = {key: value for key, value in SMALL.items()}
    gemma = dict(SMALL, num_key_value_heads=1, head_dim=8)
    scored = lambda labels: dict(id2label={i: f"LABEL_{i}" for i in range(labels)})
    plain = {
        "llama-multi-head": llama(num_key_value_heads=4),
        "llama-biases": llama(attention_bias=True, mlp_bias=True),
        "llama-head-dim": llama(head_dim=12, tie_word_embeddings=True),
        "llama-theta": llama(rope_parameters={"rope_theta": 500000.0, "rope_type": "default"}, rms_norm_eps=1e-5),
        "llama-linear": llama(**rope(rope_type="linear", factor=4.0)),
        "llama-dynamic": llama(**rope(rope_type="dynamic", factor=2.0), max_position_embeddings=16),
        "llama-llama3": llama(**rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                     original_max_position_embeddings=32)),
        "llama-yarn": llama(**rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
        "llama-gelu": llama(hidden_act="gelu"),
        "mistral-window": MistralConfig(**qwen, sliding_window=5),
        "mistral-head-dim": MistralConfig(**qwen, sliding_window=None, head_dim=12),
        "qwen2-window": Qwen2Config(**qwen, use_sliding_window=True, sliding_window=4, max_window_layers=1),
        "qwen2-no-window": Qwen2Config(**qwen, use_sliding_window=False, sliding_window=4, tie_word_embeddings=True),
        "qwen2-yarn": Qwen2Config(**qwen, **rope(rope_type="yarn", factor=2.0, original_max_position_embeddings=32)),
        "qwen3": Qwen3Config(**qwen, head_dim=16),
        "qwen3-bias-window": Qwen3Config(**qwen, head_dim=8, attention_bias=True, use_sliding_window=True,
                                         sliding_window=3, max_window_layers=2),
        "phi3": Phi3Config(**qwen),
        "phi3-partial": Phi3Config(**qwen, partial_rotary_factor=0.5, sliding_window=6),
        "phi3-longrope": Phi3Config(**dict(qwen, max_position_embeddings=64), original_max_position_embeddings=24,
                                    rope_parameters={"rope_theta": 10000.0, **phi_long}),
        "gemma": GemmaConfig(**gemma),
        "gemma2": Gemma2Config(**dict(gemma, num_hidden_layers=4), sliding_window=4, query_pre_attn_scalar=16),
        "gemma2-uncapped": Gemma2Config(**gemma, sliding_window=40, final_logit_softcapping=None,
                                        attn_logit_softcapping=None),
        "gemma3": Gemma3TextConfig(**dict(gemma, num_hidden_layers=7), sliding_window=4, query_pre_attn_scalar=8),
        "gemma3-linear": Gemma3TextConfig(
            **gemma, sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        "gpt2-inner": GPT2Config(**gpt2, n_inner=40, scale_attn_by_inverse_layer_idx=True),
        "gpt2-untied": GPT2Config(**gpt2, tie_word_embeddings=False, activation_function="relu",
                                  scale_attn_weights=False),
        "gpt-neox-serial": GPTNeoXConfig(**neox, use_parallel_residual=False, rotary_pct=0.5),
        "gpt-neox-no-bias": GPTNeoXConfig(**neox, attention_bias=False, rotary_pct=1.0, rotary_emb_base=5000,
                                          tie_word_embeddings=True),
        "gpt-neox-linear": GPTNeoXConfig(**neox, rope_scaling={"rope_type": "linear", "factor": 2.0,
                                                               "rope_theta": 10000.0}),
    }
    for name, config in plain.items():
        yield name, config, LANGUAGE, torch.float32, {}
    # As older versions of transformers wrote them, which is what most published folders have.
    short = dict(qwen, max_position_embeddings=16)
    published = {
        "old-llama3": (plain["llama-llama3"], {}),
        "old-linear": (llama(**rope(rope_type="linear", factor=2.0)), {}),
        "old-dynamic": (llama(**rope(rope_type="dynamic", factor=4.0), max_position_embeddings=14), {}),
        "old-biases": (llama(attention_bias=True, num_key_value_heads=1), {"head_dim": None, "num_key_value_heads": 1}),
        "old-no-groups": (llama(num_key_value_heads=4), {"num_key_value_heads": None}),
        "old-mlp-bias": (llama(mlp_bias=True, tie_word_embeddings=True), {}),
        "old-mistral": (MistralConfig(**qwen, sliding_window=4), {}),
        "old-qwen2": (plain["qwen2-window"], {"max_window_layers": 1}),
        "old-qwen3": (Qwen3Config(**qwen, head_dim=8, tie_word_embeddings=True), {}),
        "old-phi3": (Phi3Config(**short, original_max_position_embeddings=8, sliding_window=7,
                                rope_parameters={"rope_theta": 1e4, **phi_long}), {}),
        "old-phi3-partial": (Phi3Config(**short, original_max_position_embeddings=12, partial_rotary_factor=0.5,
                                        rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5,
                                                         "rope_type": "longrope", "short_factor": [1.0, 1.3],
                                                         "long_factor": [2.0, 5.0]}), {}),
        "old-gemma": (GemmaConfig(**gemma), {"hidden_act": "gelu", "hidden_activation": None}),
        "old-gemma2": (Gemma2Config(**dict(gemma, num_hidden_layers=5), sliding_window=3, query_pre_attn_scalar=24,
                                    attn_logit_softcapping=5.0, final_logit_softcapping=2.0), {}),
        "old-gemma3": (Gemma3TextConfig(
            **dict(gemma, num_hidden_layers=5), sliding_window=4, query_pre_attn_scalar=12,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 1
                        + ["sliding_attention", "sliding_attention"],
            rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
            {"sliding_window_pattern": 3}),
        "old-gpt2": (GPT2Config(**gpt2, reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True), {}),
        "old-gpt-neox": (GPTNeoXConfig(**neox, use_parallel_residual=True, rotary_pct=0.25, hidden_act="gelu_new",
                                       attention_bias=True), {}),
        "old-gpt-neox-serial": (GPTNeoXConfig(**neox, use_parallel_residual=False, rotary_pct=0.5,
                                              attention_bias=False), {}),
    }
    for name, (config, changes) in published.items():
        yield name, config, LANGUAGE, torch.float32, {"old": changes}
    yield "llama-f16", llama(), LANGUAGE, torch.float16, {}
    yield "gemma2-bf16", Gemma2Config(**gemma, sliding_window=4), LANGUAGE, torch.bfloat16, {}
    yield "phi3-sharded", Phi3Config(**qwen), LANGUAGE, torch.float32, {"max_shard_size": "20KB"}
    heads = {
        "llama-sequence-3": (llama(**scored(3)), SEQUENCE),
        "mistral-sequence": (MistralConfig(**qwen, **scored(1)), SEQUENCE),
        "qwen2-sequence": (Qwen2Config(**qwen, **scored(1)), SEQUENCE),
        "qwen3-token": (Qwen3Config(**qwen, head_dim=8, **scored(1)), TOKEN),
        "phi3-token-5": (Phi3Config(**qwen, **scored(5)), TOKEN),
        "gemma2-sequence": (Gemma2Config(**gemma, sliding_window=4, **scored(1)), SEQUENCE),
        "gpt2-sequence": (GPT2Config(**gpt2, pad_token_id=0, **scored(1)), SEQUENCE),
        "gpt2-token": (GPT2Config(**gpt2, **scored(2)), TOKEN),
        "gpt-neox-sequence": (GPTNeoXConfig(**neox, **scored(2)), SEQUENCE),
        "gpt-neox-token": (GPTNeoXConfig(**neox, **scored(1)), TOKEN),
        "llama-sequence-2-no-pad": (llama(**scored(2), pad_token_id=None), SEQUENCE),
        "llama-token-2": (llama(**scored(2), rope_parameters={
            "rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}), TOKEN),
        "qwen3-sequence-2": (Qwen3Config(**qwen, head_dim=8, **scored(2)), SEQUENCE),
        "gemma-token": (GemmaConfig(**gemma, **scored(1)), TOKEN),
        "gemma3-sequence": (Gemma3TextConfig(**gemma, sliding_window=4, **scored(1)), SEQUENCE),
    }
    for name, (config, kind) in heads.items():
        yield name, config, kind, torch.float32, {}


def randomise(model):
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre = 1.0 if "norm" in name or ".ln_" in name else 0.0
            if centre and model.config.model_type.startswith("gemma"):
                centre = 0.0
            parameter.copy_(centre * name.endswith("weight") + 0.3 * torch.randn_like(parameter))
        else:
            parameter.copy_(0.2 * torch.randn_like(parameter))


def outputs(model, kind, ids, mask=None):
    """Logits or token scores at every position."""
    ids = torch.tensor(ids)
    more = {}
    if mask is not None:
        mask = torch.tensor(mask)
        more = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    if kind != SEQUENCE:
        return model(ids, **more).logits
    hidden = model.base_model(ids, **more).last_hidden_state
    return model.score(hidden)


def tokenizer(folder):
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>"] + [f"w{i}" for i in range(3, VOCAB)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="w3"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>",
                            eos_token="</s>").save_pretrained(folder)


def greedy(model, prompt, new):
    found = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=new, eos_token_id=2, pad_token_id=0)
    return found[0, len(prompt):].tolist()


def expected(model, kind):
    draw = lambda n: torch.randint(3, VOCAB, (n,)).tolist()
    sequences = [draw(n) for n in (9, 4, 30, 1)]
    longest = max(map(len, sequences))
    pad = lambda left: [([0] * (longest - len(s)) + s) if left else s + [0] * (longest - len(s)) for s in sequences]
    mask = lambda left: [[int(i >= longest - len(s)) if left else int(i < len(s)) for i in range(longest)]
                         for s in sequences]
    single = [outputs(model, kind, [s])[0] for s in sequences]
    # What transformers says of a padded batch, checked against the single rows before it is handed on.
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        for left in (True, False):
            batch = outputs(model, kind, pad(left), mask(left))
            for row, m, alone in zip(batch, mask(left), single):
                difference = (row[torch.tensor(m).bool()] - alone).abs().max()
                assert difference < 2e-5, (model.config.model_type, left, difference)
    # (Under `dynamic`, transformers forgets the longest sequence so far only where one is shorter than the original length.)
    found = {"kind": kind, "sequences": [{"ids": s, "outputs": o.tolist()} for s, o in zip(sequences, single)]}
    if kind == LANGUAGE:
        prompts = [draw(n) for n in (6, 3, 12)]
        found["greedy"] = [{"prompt_ids": prompt, "ids": greedy(model, prompt, 16)} for prompt in prompts]
    if kind == SEQUENCE:
        found["pooled"] = [model(torch.tensor([s])).logits[0].tolist() for s in sequences]
    return found


def older(folder, changes):
    """Rewrites `config.json` as it was written before version 5, with `changes`; None takes a key away."""
    path = folder / "config.json"
    table = json.loads(path.read_text())
    table["torch_dtype"] = table.pop("dtype")
    table.pop("layer_types", None)
    rope = table.pop("rope_parameters", None) or {}
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    names = {"gpt_neox": ("rotary_emb_base", "rotary_pct")}
    theta, partial = names.get(table["model_type"], ("rope_theta", "partial_rotary_factor"))
    if rope:
        table[theta] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            table[partial] = rope.pop("partial_rotary_factor")
        kind = rope.pop("rope_type")
        rope.pop("original_max_position_embeddings", None) if table["model_type"] == "phi3" else None
        table["rope_scaling"] = {"type": kind, **rope} if kind != "default" else None
        # Both names of the key are found; Gemma 3's and Llama 3's have the newer one.
        if kind == "llama3" or table["model_type"] == "gemma3_text" and kind != "default":
            table["rope_scaling"]["rope_type"] = table["rope_scaling"].pop("type")
    if local:
        table["rope_local_base_freq"] = local["rope_theta"]
    for key, value in changes.items():
        table[key] = value
        if value is None:
            del table[key]
    path.write_text(json.dumps(table, indent=2))


def make(folder):
    for seed, (name, config, kind, dtype, how) in enumerate(configurations()):
        torch.manual_seed(seed)
        changes = how.pop("old", None)
        config._attn_implementation = "eager"
        model = CLASSES[kind].from_config(config).eval()
        randomise(model)
        model.to(dtype).save_pretrained(folder / name, **how)
        tokenizer(folder / name)
        if changes is not None:
            older(folder / name, changes)
        # As everywhere: stored numbers widened to f32, arithmetic in f32. Read anew, so that no buffer stays rounded.
        model = CLASSES[kind].from_pretrained(folder / name, dtype=torch.float32, attn_implementation="eager").eval()
        found = expected(model, kind)
        (folder / name / "expected.json").write_text(json.dumps(found))


def read(requests):
    for line in requests.read_text().splitlines():
        request = json.loads(line)
        kind = request["kind"]
        model, missing = CLASSES[kind].from_pretrained(request["model"], dtype=torch.float32, output_loading_info=True,
                                                       attn_implementation="eager", **request.get("more", {}))
        if "adapter" in request:
            from peft import PeftModel
            model = PeftModel.from_pretrained(model, request["adapter"]).eval()
            if request.get("merge"):
                model = model.merge_and_unload()
        elif any(missing[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            sys.exit(f"{request['model']}: {missing}")
        model.eval()
        found = [model(torch.tensor([ids])).logits[0].tolist() for ids in request["ids"]]
        print(json.dumps({"outputs": found}))


if __name__ == "__main__":
    command, path = sys.argv[1:]
    {"make": make, "read": read}[command](Path(path))
