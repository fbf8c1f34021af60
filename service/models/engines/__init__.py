"""The engines that run a model: LiteRT, or the SavedModel itself by TensorFlow.

An engine knows tensors and characters. It knows no queue, no request and no version number.
"""

from pathlib import Path
from typing import Literal

from service.errors import ModelUnavailable
from service.models.engines.engine import Engine, EngineName
from service.models.engines.litert import LiteRTEngine
from service.models.engines.saved_model import SavedModelEngine
from service.models.metadata import DECODE_FILE, PREDICT_FILE, Metadata

__all__ = ["Engine", "EngineChoice", "EngineName", "load_engine"]

EngineChoice = Literal["auto", EngineName]


def load_engine(folder: Path, metadata: Metadata, choice: EngineChoice = "auto") -> Engine:
    """Load a verified version; by default with LiteRT if it has LiteRT files.

    Raises ModelUnavailable if LiteRT was chosen and the version has no LiteRT files, and the errors of TensorFlow or
    LiteRT for a bad file.
    """
    has_litert_files = all((folder / file).exists() for file in (PREDICT_FILE, DECODE_FILE))
    if choice == "litert" and not has_litert_files:
        raise ModelUnavailable(f"{folder} has no LiteRT files: set ADDER_ENGINE=auto")
    use_litert = choice == "litert" or (choice == "auto" and has_litert_files)
    return (LiteRTEngine if use_litert else SavedModelEngine)(folder, metadata)
