"""BentoML with its adaptive batching."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import bentoml

from tests.benchmarks.peers.serving.saved_model import SavedModel


@bentoml.service(workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Adder:
    def __init__(self) -> None:
        self.model = SavedModel()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=64, max_latency_ms=1000)
    async def predict(self, queries: list[str]) -> list[str]:
        return self.model.answers(queries)
