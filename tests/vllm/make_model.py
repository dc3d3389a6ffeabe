"""``python make_model.py FOLDER [GGUF]``: a model, its tokenizer and a LoRA adapter for it; run by vLLM's Python.

The model is a tiny Llama with random weights, or a GGUF file's in vLLM's own form.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = ["The keeper of the lighthouse counts the ships that pass by night and writes them down in the morning."]
VOCABULARY = 512
RANK, PROJECTIONS = 8, ("q_proj", "v_proj")


def tiny(folder: Path) -> LlamaForCausalLM:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, num_key_value_heads=4, **sizes)
    )


def converted(file: Path, folder: Path) -> LlamaForCausalLM:
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    # What comes from a GGUF file counts as quantized, and can't be saved.
    described = read.config.to_dict()
    described.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**described))
    model.load_state_dict(read.state_dict())
    return model.bfloat16()


def save_adapter(model: LlamaForCausalLM, folder: Path) -> None:
    """Random, so that it changes every answer."""
    weights = {}
    for name, module in model.named_modules():
        if name.endswith(PROJECTIONS):
            for side, shape in (("A", (RANK, module.in_features)), ("B", (module.out_features, RANK))):
                weights[f"base_model.model.{name}.lora_{side}.weight"] = torch.randn(shape)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(about | {"target_modules": PROJECTIONS}))


torch.manual_seed(0)
target = Path(sys.argv[1])
model = converted(Path(sys.argv[2]), target) if len(sys.argv) > 2 else tiny(target)
model.save_pretrained(target)
save_adapter(model, target / "adapter")
