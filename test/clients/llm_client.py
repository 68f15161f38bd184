"""Simon Willison's llm against a server: llm_client.py <url of /v1> <model>. Prints the names of what held."""
import os
import sys
import tempfile

url, model = sys.argv[1:]
folder = tempfile.mkdtemp()
os.environ["LLM_USER_PATH"] = folder
with open(os.path.join(folder, "extra-openai-models.yaml"), "w") as file:
    file.write(
        f"- model_id: local\n  model_name: {model}\n  api_base: {url}\n  supports_schema: true\n  supports_tools: true\n"
    )
import llm

local = llm.get_model("local")
local.key = "none"


def prompt():
    assert "Paris" in local.prompt("What is the capital of France?", stream=False, temperature=0, max_tokens=40).text()


def stream():
    pieces = list(local.prompt("What is the capital of France?", temperature=0, max_tokens=40))
    assert len(pieces) > 1 and "Paris" in "".join(pieces)


def conversation():
    talk = local.conversation()
    first = talk.prompt("Hello", stream=False, temperature=0, max_tokens=20).text()
    second = talk.prompt("What did you say?", stream=False, temperature=0, max_tokens=20).text()
    assert first and second


def schema():
    import json

    shape = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 30}},
        "required": ["name"],
        "additionalProperties": False,
    }
    answer = local.prompt("A city", schema=shape, stream=False, temperature=0, max_tokens=60).text()
    assert list(json.loads(answer)) == ["name"], answer


def tools():
    def weather(city: str) -> str:
        """Tells the weather of a city."""
        return f"It is sunny in {city}."

    response = local.prompt("What is the weather in Paris?", tools=[weather], stream=False, temperature=0, max_tokens=60)
    response.text()  # the model is free to call or to answer: what it calls must be the tool
    assert all(call.name == "weather" for call in response.tool_calls())


for check in [prompt, stream, conversation, schema, tools]:
    check()
    print(check.__name__, flush=True)
