"""Ray Serve with its batching."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import sys

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

from tests.benchmarks.peers.serving.saved_model import SavedModel


@serve.deployment(num_replicas=2, max_ongoing_requests=128)
class Adder:
    def __init__(self) -> None:
        self.model = SavedModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def answers(self, queries: list[str]) -> list[str]:
        return self.model.answers(queries)

    async def __call__(self, request: Request) -> dict[str, str]:
        return {"answer": await self.answers((await request.json())["query"])}


def main(port: int, folder: str) -> None:
    ray.init(include_dashboard=False, _temp_dir=folder)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    application = Adder.bind()  # type: ignore[attr-defined]  # the decorator replaces the class
    serve.run(application, route_prefix="/predict", blocking=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
