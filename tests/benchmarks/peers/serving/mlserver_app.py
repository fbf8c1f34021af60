"""MLServer with a custom runtime and its adaptive batching."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.benchmarks.peers.serving.saved_model import SavedModel


class Adder(MLModel):
    async def load(self) -> bool:
        self._model = SavedModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self._model.answers(StringCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answer", answers)])
