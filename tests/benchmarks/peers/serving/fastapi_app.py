"""FastAPI under uvicorn, a call for each request."""
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

from fastapi import FastAPI
from pydantic import BaseModel

from tests.benchmarks.peers.serving.saved_model import SavedModel


class Query(BaseModel):
    query: str


class Answer(BaseModel):
    answer: str


def create_app() -> FastAPI:
    """The application, which uvicorn creates in each worker."""
    app, model = FastAPI(), SavedModel()

    @app.post("/predict")
    async def predict(body: Query) -> Answer:
        return Answer(answer=model.answers([body.query])[0])

    return app
