"""The peers: how each is started and called."""

from typing import NamedTuple

PREDICT_PROTOCOL = '{"inputs":[{"name":"query","shape":[1,1],"datatype":"BYTES","data":["%s"]}]}'
SERVING = "tests.benchmarks.peers.serving"
GUNICORN = "gunicorn --bind 127.0.0.1:{ports[0]} --workers 2 --threads 4 --no-control-socket"


class Peer(NamedTuple):
    """One way to serve the SavedModel.

    The first word of `command` is a program of the peer's environment. In `command` and `variables`, `{ports[0]}` is
    the port to serve on, `{ports[1]}` to `{ports[3]}` are other free ports, `{folder}` is an empty folder, and
    `{libraries}` the folder of Python's shared library. `answer` is the path of the answer in the JSON of a response.
    """

    name: str
    title: str
    distribution: str
    requirements: str
    command: str
    settings: str
    path: str = "/predict"
    body: str = '{"query":"%s"}'
    answer: tuple[str | int, ...] = ("answer",)
    variables: dict[str, str] = {}  # noqa: RUF012


PEERS = [
    Peer(
        name="flask-predict",
        title="Flask + gunicorn, Keras `model.predict`",
        distribution="flask",
        requirements="flask",
        command=GUNICORN + f" {SERVING}.flask_predict:create_app()",
        settings="two workers; `verbose=0`, without the progress bar",
    ),
    Peer(
        name="flask-signature",
        title="Flask + gunicorn, the signature",
        distribution="flask",
        requirements="flask",
        command=GUNICORN + f" {SERVING}.flask_signature:create_app()",
        settings="two workers; 4 threads each, which wait while the model answers another request",
    ),
    Peer(
        name="fastapi",
        title="FastAPI + uvicorn",
        distribution="fastapi",
        requirements="fastapi",
        command=f"uvicorn --factory {SERVING}.fastapi_app:create_app --host 127.0.0.1 --port {{ports[0]}} --workers 2"
        " --no-access-log --log-level warning",
        settings="two workers; uvloop and httptools; no access log; `async def`, since a call of the model"
        " is shorter than the switch to a thread and back; the answer as a pydantic model, which it serialises fastest",
    ),
    Peer(
        name="litserve",
        title="LitServe",
        distribution="litserve",
        requirements="litserve",
        command=f"python -m {SERVING}.litserve_app {{ports[0]}}",
        settings="`max_batch_size` 64, `batch_timeout` 1 ms (0 spins, 0.1 and 0.5 ms were no faster), `fast_queue` for"
        " more than a hundred requests a second; one worker, which batches the requests of two HTTP servers: two"
        " workers were slower, because they share two cores with the HTTP servers",
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        distribution="bentoml",
        requirements="bentoml",
        command=f"bentoml serve {SERVING}.bentoml_app:Adder --host 127.0.0.1 --port {{ports[0]}}",
        settings="two workers; uvloop and httptools; no access log, no metrics; adaptive batches to 64;"
        " `max_latency_ms` 1000, because it refuses requests with 300; `async def`, which is faster than its threads",
        body='{"queries":["%s"]}',
        answer=(0,),
        variables={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{folder}"},
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        distribution="mlserver",
        requirements="mlserver",
        command="mlserver start {folder}",
        settings="`debug`, metrics and gzip off; adaptive batches to 64, `max_batch_time` 0.5 ms (with 1 or 2 a lone"
        " request waits, with 0.1 no more were answered); `parallel_workers` 0, which calls the model in the process"
        " that receives the requests: 1 and 2 workers were slower, because the one HTTP process is the bottleneck",
        path="/v2/models/adder/infer",
        body=PREDICT_PROTOCOL,
        answer=("outputs", 0, "data", 0),
        variables={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{ports[0]}",
            "MLSERVER_GRPC_PORT": "{ports[1]}",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_METRICS_ENDPOINT": "",
            "MLSERVER_GZIP_ENABLED": "false",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_MODEL_NAME": "adder",
            "MLSERVER_MODEL_IMPLEMENTATION": f"{SERVING}.mlserver_app.Adder",
            "MLSERVER_MODEL_MAX_BATCH_SIZE": "64",
            "MLSERVER_MODEL_MAX_BATCH_TIME": "0.0005",
        },
    ),
    Peer(
        name="pytriton",
        title="PyTriton",
        distribution="nvidia-pytriton",
        requirements="pytriton",
        command=f"python -m {SERVING}.pytriton_app {{ports[0]}} {{ports[1]}} {{folder}}/workspace",
        settings="dynamic batches to 64 without a delay; two HTTP threads; no metrics; outputs not"
        " validated; one instance: a second is a thread of the same Python process, and made a lone request slower",
        path="/v2/models/adder/infer",
        body=PREDICT_PROTOCOL,
        answer=("outputs", 0, "data", 0),
        variables={"LD_LIBRARY_PATH": "{libraries}"},  # for Triton to find the Python that runs PyTriton
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        distribution="ray",
        requirements="ray",
        command=f"python -m {SERVING}.ray_serve_app {{ports[0]}} {{folder}}",
        settings="two replicas; `@serve.batch` to 64 without a wait; `RAY_SERVE_THROUGHPUT_OPTIMIZED` with"
        " its HAProxy, in one thread: with 16 connections ten times as many requests/s as without",
        variables={
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/haproxy/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}/haproxy",
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/haproxy/server-state",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/haproxy/metrics.sock",
            "RAY_SERVE_HAPROXY_METRICS_PORT": "{ports[1]}",
            "RAY_SERVE_HAPROXY_STATS_PORT": "{ports[2]}",
        },
    ),
]
