"""One version of a model: verified, loaded, warm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from service.errors import ModelUnavailable
from service.models.engines import Engine, EngineChoice, load_engine
from service.models.engines.model_output import ModelOutput
from service.models.metadata import Metadata, read_samples, verify


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Artifact:
    """A loaded version. `sha256` is that of its checksums.txt; `signature_def` is the SignatureDef of the SavedModel's
    `serving_default`, as protobuf writes it in JSON; `samples` are the right answers by query, if they are the truth of
    its task."""

    metadata: Metadata
    sha256: str
    signature_def: dict[str, Any]
    engine: Engine
    samples: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls, folder: Path, signature_def: dict[str, Any] | None = None, engine_choice: EngineChoice = "auto"
    ) -> Self:
        """Verify and load the version in `folder`, run it at every batch size, and compare its golden answers.

        Raises ModelUnavailable.
        """
        metadata, sha256 = verify(folder)
        samples = read_samples(folder) if metadata.task.truth == "samples" else {}
        try:
            engine = load_engine(folder, metadata, engine_choice)
            for size in metadata.batch_sizes:
                engine.predict([metadata.task.example] * size)
            outputs = [engine.predict([golden.query])[0] for golden in metadata.golden]
        except ModelUnavailable:
            raise
        except Exception as error:
            raise load_error(folder, error) from error
        _require_golden_answers(folder, metadata, outputs)
        return cls(metadata, sha256, signature_def or {}, engine, samples)


def load_error(folder: Path, error: Exception) -> ModelUnavailable:
    """The problem of a version for which TensorFlow or LiteRT has raised `error`."""
    return ModelUnavailable(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:200]}")


def _require_golden_answers(folder: Path, metadata: Metadata, outputs: list[ModelOutput]) -> None:
    alphabet = metadata.task.alphabet
    if outputs[0].probabilities.shape[-1] != len(alphabet):
        raise ModelUnavailable(f"{folder} has an alphabet of another size than its model")
    for golden, output in zip(metadata.golden, outputs, strict=True):
        decoded = "".join(alphabet[token] for token in output.probabilities.argmax(-1))
        if not decoded.startswith(output.answer):
            raise ModelUnavailable(f"{folder} has an alphabet in another order than its model")
        if golden.answer != output.answer:
            raise ModelUnavailable(
                f"{folder} answers {golden.query} with {output.answer!r}, at its export with {golden.answer!r}"
            )
