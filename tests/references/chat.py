"""What `transformers` renders by chat templates.

    python chat.py REQUESTS   # JSON lines {"template", "tokens", "conversation", "prompt"} -> JSON lines {"text", "generated"}
                              # or {"error"}; `conversation` is a list of messages, or an object with `messages` and more
"""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template


def rendered(request):
    conversation = request["conversation"]
    more = {} if isinstance(conversation, list) else {k: v for k, v in conversation.items() if k != "messages"}
    messages = conversation if isinstance(conversation, list) else conversation["messages"]
    marked = "{% generation %}" in request["template"]
    try:
        texts, spans = render_jinja_template(
            conversations=[messages], chat_template=request["template"], tools=more.pop("tools", None),
            add_generation_prompt=request["prompt"], return_assistant_tokens_mask=marked, **request["tokens"], **more)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"text": texts[0], "generated": [list(span) for span in spans[0]] if marked else []}


for line in Path(sys.argv[1]).read_text().splitlines():
    print(json.dumps(rendered(json.loads(line))))
