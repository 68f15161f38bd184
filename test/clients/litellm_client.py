"""LiteLLM against a server: litellm_client.py <url of /v1> <model>. Prints the names of what held."""
import json
import sys

import litellm

url, model = sys.argv[1:]
to = dict(api_base=url, api_key="none", max_retries=0)
chat_model = dict(model=f"openai/{model}", temperature=0, **to)
question = [{"role": "user", "content": "What is the capital of France?"}]


def chat():
    answer = litellm.completion(messages=question, max_tokens=40, **chat_model)
    assert "Paris" in answer.choices[0].message.content, answer
    return answer.choices[0].message.content


def streamed():
    stream = litellm.completion(messages=question, max_tokens=40, stream=True, **chat_model)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == chat()


def text():
    answer = litellm.text_completion(
        model=f"text-completion-openai/{model}", prompt="Paris is", max_tokens=4, temperature=0, **to
    )
    assert answer.choices[0].text


def embeddings():
    answer = litellm.embedding(model=f"openai/{model}", input=["one", "two"], **to)
    assert len(answer.data) == 2


def structured():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 30}, "population": {"type": "integer"}},
        "required": ["name", "population"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    answer = litellm.completion(messages=question, max_tokens=100, response_format=form, **chat_model)
    assert set(json.loads(answer.choices[0].message.content)) == {"name", "population"}, answer


def tools():
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    answer = litellm.completion(
        messages=question, max_tokens=100, tools=[tool], tool_choice="required", **chat_model
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)


def responses():
    answer = litellm.responses(model=f"openai/{model}", input="Hello", max_output_tokens=20, **to)
    assert answer.output, answer


for check in [chat, streamed, text, embeddings, structured, tools, responses]:
    check()
    print(check.__name__, flush=True)
