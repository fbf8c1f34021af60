"""Call Triton's client with all that the tests check, and print the results as JSON: `python triton.py URL`."""
# mypy: disable-error-code="import-not-found"

import json
import sys
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

OUTPUTS = ("answer", "confidence", "probabilities")
QUERIES = ["123+456", " 9 + 1", "999+999"]
AT_ONCE = 64


def query(queries: list[Any], in_binary: bool, shape: tuple[int, ...] = (-1,)) -> Any:
    """Build the input tensor from text or bytes."""
    data = np.array(queries, object).reshape(shape)
    tensor = InferInput("query", list(data.shape), "BYTES")
    tensor.set_data_from_numpy(data, binary_data=in_binary)
    return tensor


def all_outputs(in_binary: bool) -> list[Any]:
    """Request all outputs, by name."""
    return [InferRequestedOutput(name, binary_data=in_binary) for name in OUTPUTS]


def read(result: Any) -> dict[str, Any]:
    """Return the outputs of a response as JSON values."""
    found = {name: result.as_numpy(name) for name in OUTPUTS}
    if found["answer"] is not None and found["answer"].dtype == object:
        found["answer"] = np.array([each if isinstance(each, str) else each.decode() for each in found["answer"]])
    return {name: values.tolist() for name, values in found.items() if values is not None}


def error(call: Any, *arguments: Any, **options: Any) -> list[str]:
    """Return the status and the sentence of the exception that the client raises."""
    try:
        answered = call(*arguments, **options)
    except InferenceServerException as problem:
        return [problem.status(), problem.message()]
    raise AssertionError(f"answered with {answered}")


def at_once(client: Any, queries: list[str]) -> list[str]:
    """Send all requests before the first answer is read; return the answers."""
    sent = [client.async_infer("adder", [query([each], in_binary=True)]) for each in queries]
    return [read(each.get_result())["answer"][0] for each in sent]


def ask(client: Any) -> dict[str, Any]:
    """Return the results by name, as the tests look them up."""

    def infer(*arguments: Any, **options: Any) -> Any:
        return client.infer("adder", *arguments, **options)

    many = [f"{number % 1000}+{number // 4}" for number in range(4000)]
    mixed = [InferRequestedOutput("answer", binary_data=True), InferRequestedOutput("confidence", binary_data=False)]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("adder"),
        "version ready": client.is_model_ready("adder", "1"),
        "unknown model ready": client.is_model_ready("half"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("adder"),
        "repository": client.get_model_repository_index(),
        "answers": {
            "JSON": read(infer([query(QUERIES, False)], outputs=all_outputs(False))),
            "binary": read(infer([query(QUERIES, True)], outputs=all_outputs(True))),
            "JSON in, binary out": read(infer([query(QUERIES, False)])),
            "binary in, JSON out": read(infer([query(QUERIES, True)], outputs=all_outputs(False))),
            "bytes": read(infer([query([each.encode() for each in QUERIES], True)])),
            "a column": read(infer([query(QUERIES, True, (-1, 1))])),
            "gzip": read(infer([query(QUERIES, True)], request_compression_algorithm="gzip")),
            "deflate": read(
                infer(
                    [query(QUERIES, False)],
                    request_compression_algorithm="deflate",
                    response_compression_algorithm="gzip",
                )
            ),
        },
        "some": read(infer([query(QUERIES, True)], outputs=mixed)),
        "version": infer([query(QUERIES, True)], model_version="1", request_id="42").get_response(),
        "many": [many, read(infer([query(many, True)]))["answer"]],
        "at once": [many[:AT_ONCE], at_once(client, many[:AT_ONCE])],
        "errors": {
            "query": error(infer, [query(["1+1", "x"], True)]),
            "bytes": error(infer, [query([b"\xff"], True)]),
            "none": error(infer, [query([], True)]),
            "model": error(client.infer, "half", [query(["1+1"], True)]),
            "version": error(infer, [query(["1+1"], True)], model_version="7"),
            "output": error(infer, [query(["1+1"], True)], outputs=[InferRequestedOutput("sum")]),
            "classes": error(
                infer, [query(["1+1"], True)], outputs=[InferRequestedOutput("confidence", class_count=2)]
            ),
            "metadata": error(client.get_model_metadata, "half"),
            "statistics": error(client.get_inference_statistics, "adder"),
        },
    }


if __name__ == "__main__":
    with InferenceServerClient(sys.argv[1].removeprefix("http://"), concurrency=AT_ONCE) as client:
        print(json.dumps(ask(client)))
