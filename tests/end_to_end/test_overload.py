"""More requests than the service can answer: it goes on to answer, each client in its turn."""

import http.client
import json
import threading
from collections import Counter

from tests.end_to_end.conftest import Service

CLIENTS = 24
FULL = json.dumps({"queries": [f"{number % 1000}+{number // 10}" for number in range(8192)]})


def test_each_of_many_clients_of_full_batches_is_answered(service: Service) -> None:
    statuses: Counter[int] = Counter()

    def send_until_answered() -> None:
        connection, status = http.client.HTTPConnection("127.0.0.1", service.port), 0
        while status != 200:  # and come again at once
            connection.request("POST", "/predict/batch", FULL, {"content-type": "application/json"})
            with connection.getresponse() as response:
                response.read()
                status = response.status
            statuses[status] += 1
        connection.close()

    clients = [threading.Thread(target=send_until_answered, daemon=True) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        assert service.post("/predict", {"query": "1+2"}).status_code == 200
    assert statuses[200] == CLIENTS
    assert set(statuses) <= {200, 503}
