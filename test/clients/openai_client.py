"""The official Python client against a server: openai_client.py <url of /v1> <model>. Prints the names of what held."""
import sys

from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

url, model = sys.argv[1:]
client = OpenAI(base_url=url, api_key="none", max_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]


def models():
    assert [entry.id for entry in client.models.list()] == [model]
    assert client.models.retrieve(model).object == "model"


def chat():
    answer = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=40)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.choices[0].message.content


def streamed_chat():
    whole = chat()
    stream = client.chat.completions.create(
        model=model, messages=question, temperature=0, max_tokens=40, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == whole, (text, whole)
    assert usage.completion_tokens > 1


def streamed_by_helper():
    with client.chat.completions.stream(model=model, messages=question, temperature=0, max_tokens=20) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content


def logprobs():
    answer = client.chat.completions.create(
        model=model, messages=question, temperature=0, max_tokens=5, logprobs=True, top_logprobs=2
    )
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 for token in content)


def completions():
    scored = client.completions.create(model=model, prompt="Paris is in France", echo=True, max_tokens=0, logprobs=1)
    choice = scored.choices[0]
    assert choice.text == "Paris is in France" == "".join(choice.logprobs.tokens)
    best = client.completions.create(model=model, prompt=["a", "b"], n=2, best_of=3, max_tokens=4, seed=1)
    assert [choice.index for choice in best.choices] == [0, 1, 2, 3]


def embeddings():
    answer = client.embeddings.create(model=model, input=["one", "two"], dimensions=16)
    assert [len(entry.embedding) for entry in answer.data] == [16, 16]


class City(BaseModel):
    name: str
    population: int


def structured():
    answer = client.chat.completions.parse(
        model=model, messages=question, response_format=City, temperature=0, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, City), answer


def refusals():
    try:
        client.chat.completions.create(model=model, messages=question, temperature=-1)
        raise AssertionError("temperature -1 was taken")
    except BadRequestError as error:
        assert error.param == "temperature", error
    try:
        client.models.retrieve("another")
        raise AssertionError("another model was found")
    except NotFoundError as error:
        assert error.code == "model_not_found", error


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def tools():
    import json

    request = dict(model=model, messages=question, tools=[WEATHER], temperature=0, max_tokens=100)
    answer = client.chat.completions.create(tool_choice="required", **request)
    assert answer.choices[0].finish_reason == "tool_calls", answer
    call = answer.choices[0].message.tool_calls[0]
    assert list(json.loads(call.function.arguments)) == ["city"], call
    turns = [
        *question,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    after = client.chat.completions.create(**{**request, "messages": turns}, tool_choice="none")
    assert after.choices[0].message.content and not after.choices[0].message.tool_calls
    stream = client.chat.completions.create(tool_choice="required", stream=True, **request)
    pieces = [
        piece.function.arguments or ""
        for chunk in stream
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or []
        if piece.index == 0
    ]
    assert "".join(pieces) == call.function.arguments, pieces


def responses():
    first = client.responses.create(model=model, input="What is the capital of France?", temperature=0, max_output_tokens=40)
    assert first.status == "completed" and "Paris" in first.output_text, first
    again = client.responses.create(
        model=model, input="And of Italy?", previous_response_id=first.id, temperature=0, max_output_tokens=20
    )
    assert again.previous_response_id == first.id and again.usage.input_tokens > first.usage.input_tokens
    with client.responses.stream(model=model, input="Hello", temperature=0, max_output_tokens=20) as stream:
        kinds = [event.type for event in stream]
        assert kinds[0] == "response.created" and "response.output_text.delta" in kinds, kinds
        assert stream.get_final_response().output_text
    parsed = client.responses.parse(model=model, input="A city", text_format=City, temperature=0, max_output_tokens=200)
    assert isinstance(parsed.output_parsed, City), parsed


CHECKS = [
    models, chat, streamed_chat, streamed_by_helper, logprobs, completions, embeddings, structured, refusals, tools, responses,
]  # fmt: skip
for check in CHECKS:
    check()
    print(check.__name__, flush=True)
