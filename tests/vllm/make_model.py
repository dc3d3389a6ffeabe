"""``python make_model.py FOLDER``: a tiny random Llama, its tokenizer, a LoRA adapter for it; run by vLLM's Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = ["The keeper of the lighthouse counts the ships that pass by night and writes them down in the morning."]
VOCABULARY = 512

folder = sys.argv[1]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
tokenizer.train_from_iterator(TEXT, trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
fast.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
fast.save_pretrained(folder)
torch.manual_seed(0)
sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, num_key_value_heads=4, **sizes)
LlamaForCausalLM(config).save_pretrained(folder)

rank, projections = 8, ("q_proj", "v_proj")
weights = {
    f"base_model.model.model.layers.{layer}.self_attn.{projection}.lora_{side}.weight": torch.randn(shape)
    for layer in range(config.num_hidden_layers)
    for projection in projections
    for side, shape in (("A", (rank, config.hidden_size)), ("B", (config.hidden_size, rank)))
}
adapter = Path(folder) / "adapter"
adapter.mkdir(exist_ok=True)
save_file(weights, adapter / "adapter_model.safetensors")
about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
(adapter / "adapter_config.json").write_text(json.dumps(about | {"target_modules": projections}))
