"""PyTriton: Triton's HTTP server and dynamic batcher in front of Python."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import sys

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.benchmarks.peers.serving.saved_model import SavedModel

Texts = npt.NDArray[np.bytes_]


def main(port: int, grpc_port: int, workspace: str) -> None:
    model = SavedModel()

    @batch
    def infer(query: Texts) -> dict[str, Texts]:
        answers = model.answers([text.decode() for text in query.ravel()])
        return {"answer": np.array(answers, "S").reshape(-1, 1)}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        http_thread_count=2,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        allow_metrics=False,
    )
    with Triton(config=config, workspace=workspace) as triton:
        triton.bind(
            model_name="adder",
            infer_func=infer,
            inputs=[Tensor(name="query", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="answer", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
