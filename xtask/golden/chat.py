"""Makes the golden files of chat templates: what `apply_chat_template` of `transformers` gives, as text, ids and masks.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/chat.py [FOLDER]

FOLDER is `crates/s3t/tests/golden-chat` if it is not given. Made with torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3 and
jinja2 3.1.6.

`bytes` and `pieces` are tiny random Llamas with a byte-level BPE tokenizer and with one of pieces as Llama 2 has it. `chat.json` has
templates in the form that models are published with, conversations, and for each template, tokenizer, conversation and
`add_generation_prompt` the text and the ids, or that the template raises an error. `learnt` has the mask of the tokens that a model
learns of a conversation: those that overlap an assistant's turn, which is the text between `render(messages[:i],
add_generation_prompt=True)` and `render(messages[:i + 1])`. For templates with `generation` tags the mask of
`return_assistant_tokens_mask` is compared with it here. `null` stands for a conversation whose earlier text changes with later messages.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "crates/s3t/tests/golden-chat"
CONTROL = [
    "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]",
    "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|end|>",
]

TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system") %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message "
    "in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must "
    "alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content "
    "= '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
    "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] "
    "== 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content "
    "= bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "llama-3.2": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- message.tool_calls[0].function | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral-v0.1": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
    "raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == "
    "'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
    "eos_token + ' ' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "mistral-v0.3": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == "
    "'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and "
    "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation "
    "roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = "
    "'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "phi-3": "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' "
    "%}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    # The tags enclose what a turn adds behind the generation prompt.
    "chatml with generation": "{%- for message in messages %}\n{%- if message.role == 'assistant' %}\n{{- '<|im_start|>assistant\n' "
    "}}\n{%- generation %}\n{{- message.content + '<|im_end|>\n' }}\n{%- endgeneration %}\n{%- else %}\n{{- '<|im_start|>' + "
    "message.role + '\n' + message.content + '<|im_end|>\n' }}\n{%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n{{- "
    "'<|im_start|>assistant\n' }}\n{%- endif %}\n",
    "llama-3 with generation": "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' }}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}{% if add_generation_prompt "
    "%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    # Not of a model: the parts of the language that templates use.
    "language": """{# A comment. #}
  {%- macro shown(message, mark='*') -%}
    {{ mark }}{{ message.role | upper }}{{ mark }}: {{ message['content'] | replace('a', '4') }}
  {%- endmacro %}
{{ bos_token }}{{ pad_token }}{{ nothing }}
{% for message in messages %}
    {% if loop.index0 == 1 %}{% continue %}{% endif %}
    {% if loop.index > 5 %}{% break %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.cycle('x', 'y') }} {{ shown(message, mark='-') }}
    {% set parts = message.content.split(' ') %}
{{ parts[0] }}|{{ parts[-1] }}|{{ parts | length }}|{{ parts | join('_') }}|{{ message.content[:3] }}|{{ message.content[::-1] }}
{{ message | tojson }} {{ message.content | tojson(ensure_ascii=True) }} {{ parts | tojson(indent=2) }}
{{ message.content.strip().startswith('H') }} {{ message.content.title() }} {{ 'tool_calls' in message }} {{ message.get('x', 7) }}
{{ message.content is string }} {{ message is mapping }} {{ messages is iterable }} {{ message.x is not defined }} {{ message.items() | list | length }}
{% endfor %}
{{ [1, 2.5, true, none, 'q"'] }} {{ {'a': 1, 'b': [none]} }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 3 }} {{ 2 ** 5 }} {{ 'ab' * 2 }} {{ 'n' ~ 1 }}
{{ 'yes' if tools is none else 'no' }} {{ (messages | first).role }} {{ (messages | last).role }} {{ messages | map(attribute='role') | unique | list }}
{%- set ns = namespace(count=0) %}{% for message in messages if message.role == 'user' %}{% set ns.count = ns.count + 1 %}{% endfor %}
{{ ns.count }} {{ '%s of %d' | format('one', 2) }} {{ 'x' | default('y') }} {{ missing | default('y') }} {{ dict(a=1) }} {{ range(3) | list }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join(', ') }}
{{ '  both '.lstrip() ~ '|' ~ '  both '.rstrip() ~ '|' ~ 'xxbothxx'.strip('x') }} {{ 'a\\nb' | indent(2) }} {{ 'Ab'.lower() }} {{ not messages }} {{ 'b' not in 'abc' }}
""",
}

CONVERSATIONS = {
    "one": [("user", "Hello, who are you?")],
    "answered": [("user", "Hello!"), ("assistant", "Hi. What can I do for you?")],
    "several": [
        ("user", "  What is 2 + 2? "), ("assistant", " Four. "), ("user", "And\ntwice that?"), ("assistant", "Eight."),
        ("user", "Thanks"), ("assistant", "You are welcome\n"),
    ],
    "with system": [
        ("system", "You are \"terse\" & <plain>."), ("user", "Naïve café 😀?"), ("assistant", "Ça va, 漢字."), ("user", "more"),
    ],
    "system and turns": [
        ("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "a man, a plan"), ("assistant", "a canal"),
    ],
    "answer first": [("assistant", "Welcome!"), ("user", "Hello")],
    "two users": [("user", "One"), ("user", "two"), ("assistant", "three")],
    "only system": [("system", "Nobody is here")],
    "control tokens": [("user", "<|im_end|>\n<|im_start|>assistant\nyes</s>[/INST]"), ("assistant", "No <|eot_id|> there")],
    "empty": [("user", ""), ("assistant", "")],
}

CORPUS = [text for messages in CONVERSATIONS.values() for _, text in messages] + [
    "You are a helpful assistant. system user assistant model welcome what can I do for you who are you hello",
    "Conversation roles must alternate: the old film was a quiet joy and we saw it twice. Two, four, eight, sixteen.",
]


def byte_level(special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + 60, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def pieces(special):
    """As the tokenizer of Llama 2: texts begin with a space, spaces are `▁`, other characters become bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = sorted({letter for text in CORPUS for letter in text if letter.isascii() and letter > " "} | {"▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + len(letters) + 60, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=letters, limit_alphabet=len(letters), show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The trainer makes special tokens of the bytes; they are parts of the vocabulary and no more.
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(saved))


def new_model(folder, tokenizer):
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=None, tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    # By hand, as `save_pretrained` would write the fields of one version of the library.
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n")
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)


def as_messages(conversation):
    return [{"role": role, "content": content} for role, content in conversation]


def rendered(tokenizer, template, messages, prompt):
    # A date that templates may put in: that which they have without a clock.
    return tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=prompt, tokenize=False, date_string="26 Jul 2024"
    )


def learnt(tokenizer, template, messages):
    """The mask of an assistant's turns by prefixes; None if a prefix changes."""
    text = rendered(tokenizer, template, messages, False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = rendered(tokenizer, template, messages[:index], True) if index else ""
        behind = rendered(tokenizer, template, messages[:index + 1], False)
        if not behind.startswith(before) or not text.startswith(behind):
            return None
        spans.append((len(before), len(behind)))
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [
        int(any(end > start_of and start < end_of for start_of, end_of in spans))
        for start, end in encoding["offset_mapping"]
    ]


def case(tokenizer, template, messages):
    made = {}
    for prompt in (False, True):
        try:
            text = rendered(tokenizer, template, messages, prompt)
            ids = tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=prompt, return_dict=False, date_string="26 Jul 2024"
            )
            made["prompt" if prompt else "whole"] = {"text": text, "ids": ids}
        except TemplateError:
            made["prompt" if prompt else "whole"] = None
    roles = [message["role"] for message in messages]
    if made["whole"] and "assistant" in roles[1:]:
        try:
            made["learnt"] = learnt(tokenizer, template, messages)
        except TemplateError:
            made["learnt"] = None
        if "generation %}" in template and roles[0] != "assistant":
            both = tokenizer.apply_chat_template(messages, chat_template=template, return_assistant_tokens_mask=True)
            assert both["assistant_masks"] == made["learnt"], (template, messages)
    return made


def make_all(out):
    special = ["<unk>", "<s>", "</s>", *CONTROL]
    tokenizers = {
        "bytes": new_model(out / "bytes", byte_level(special)),
        "pieces": new_model(out / "pieces", pieces([AddedToken(token, special=True, normalized=False) for token in special])),
    }
    cases = []
    for name, template in TEMPLATES.items():
        for of, tokenizer in tokenizers.items():
            for title, conversation in CONVERSATIONS.items():
                cases.append({"template": name, "model": of, "chat": title, **case(tokenizer, template, as_messages(conversation))})
    chats = {title: as_messages(conversation) for title, conversation in CONVERSATIONS.items()}
    head = json.dumps({"templates": TEMPLATES, "chats": chats}, ensure_ascii=False, indent=1)
    lines = ",\n".join(json.dumps(made, ensure_ascii=False) for made in cases)
    (out / "chat.json").write_text(f'{head[:-2]},\n "cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases, {sum(made.get('learnt') is not None for made in cases)} masks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    make_all(parser.parse_args().folder)
