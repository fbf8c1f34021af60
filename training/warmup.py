"""The warm-up requests that TensorFlow Serving sends to a version before it serves it.

Its feature SavedModel Warmup reads them from `assets.extra/tf_serving_warmup_requests`: a TFRecord file in which each
record is a PredictionLog. The messages below are the subset of prediction_log.proto, predict.proto and model.proto
(tensorflow_serving/apis) that a warm-up needs. A protobuf map has the wire format of a repeated message of key and
value.
"""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from training.metadata import Metadata

FILE = Path("assets.extra") / "tf_serving_warmup_requests"

PROTO = """
name: "training/warmup.proto" package: "training" syntax: "proto3"
dependency: "tensorflow/core/framework/tensor.proto"
message_type {
  name: "ModelSpec"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "signature_name" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
}
message_type {
  name: "Input"
  field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "value" number: 2 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".tensorflow.TensorProto" }
}
message_type {
  name: "PredictRequest"
  field { name: "model_spec" number: 1 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".training.ModelSpec" }
  field { name: "inputs" number: 2 type: TYPE_MESSAGE label: LABEL_REPEATED type_name: ".training.Input" }
}
message_type {
  name: "PredictLog"
  field { name: "request" number: 1 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".training.PredictRequest" }
}
message_type {
  name: "PredictionLog"
  field { name: "predict_log" number: 6 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".training.PredictLog" }
}
"""

descriptor_pool.Default().Add(text_format.Parse(PROTO, descriptor_pb2.FileDescriptorProto()))
PredictionLog: Any = message_factory.GetMessageClass(
    descriptor_pool.Default().FindMessageTypeByName("training.PredictionLog")
)


def write(artifact: Path, metadata: Metadata) -> None:
    """Write `FILE`: one request to `serving_default` for each batch size, filled with the golden queries in turn."""
    (artifact / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(artifact / FILE)) as file:
        for size in metadata.batch_sizes:
            queries = list(islice(cycle(golden.query for golden in metadata.golden), size))
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = metadata.name, "serving_default"
            request.inputs.add(key="query", value=tf.make_tensor_proto(queries))
            file.write(log.SerializeToString())
