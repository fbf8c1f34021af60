"""LitServe with its batching."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import sys

import litserve

from tests.benchmarks.peers.serving.saved_model import SavedModel


class Adder(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = SavedModel()

    def decode_request(self, request: dict[str, str]) -> str:
        return request["query"]

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, inputs: list[str]) -> list[str]:
        return self.model.answers(inputs)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"answer": output}


def main(port: int) -> None:
    api = Adder(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run("127.0.0.1", port, num_api_servers=2, log_level="warning", generate_client_file=False, access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
