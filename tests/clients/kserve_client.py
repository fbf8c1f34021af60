"""Call KServe's client with all that the tests check, and print the results as JSON: `python kserve_client.py URL`."""
# mypy: disable-error-code="import-not-found"

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

QUERIES = ["123+456", " 9 + 1", "999+999"]


def request(queries: list[str], in_binary: bool, **more: Any) -> Any:
    """Build a request of the Open Inference Protocol."""
    tensor = InferInput("query", [len(queries)], "BYTES")
    tensor.set_data_from_numpy(np.array(queries, object), binary_data=in_binary)
    return InferRequest("adder", [tensor], **more)


def read(response: Any) -> dict[str, Any]:
    """Return the outputs of a response as JSON values."""
    return {output.name: output.as_numpy().tolist() for output in response.outputs}


async def error(call: Any) -> list[Any]:
    """Return the status and the sentence of the exception that the client raises."""
    try:
        answered = await call
    except httpx.HTTPStatusError as problem:
        return [problem.response.status_code, str(problem)]
    raise AssertionError(f"answered with {answered}")


async def ask(url: str) -> dict[str, Any]:
    """Return the results by name, as the tests look them up."""
    v1, v2 = (InferenceRESTClient(RESTConfig(protocol=protocol)) for protocol in ("v1", "v2"))

    async def infer(*arguments: Any, **options: Any) -> Any:
        return await v2.infer(url, request(*arguments, **options), model_name="adder")

    many = [f"{number}+{number // 4}" for number in range(50)]
    named = await infer(QUERIES, False, request_id="42")
    return {
        "live": await v2.is_server_live(url),
        "ready": await v2.is_server_ready(url),
        "model ready": await v2.is_model_ready(url, "adder"),
        "unknown model ready": await v2.is_model_ready(url, "half"),
        "named": [named.model_name, named.id],
        "answers": {
            "JSON": read(named),
            "binary": read(await infer(QUERIES, True, parameters={"binary_data_output": True})),
        },
        "at once": [
            many,
            [read(each)["answer"][0] for each in await asyncio.gather(*(infer([q], True) for q in many))],
        ],
        "rows": await v1.infer(url, {"instances": QUERIES}, model_name="adder"),
        "errors": {
            "query": await error(infer(["x"], False)),
            "model": await error(v2.infer(url, request(["1+1"], False), model_name="half")),
            "row": await error(v1.infer(url, {"instances": ["x"]}, model_name="adder")),
            "servable": await error(v1.infer(url, {"instances": ["1+1"]}, model_name="half")),
        },
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
