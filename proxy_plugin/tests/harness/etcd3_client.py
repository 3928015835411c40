"""Does with the package etcd3 what its stdin says (JSON), and prints what it saw (JSON).

Run as a program with PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python: etcd3 0.12.0's generated code
is older than protobuf 4, and the setting counts for a whole process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import etcd3
from etcd3.events import PutEvent


def main() -> None:
    request = json.load(sys.stdin)
    client = etcd3.client(host="127.0.0.1", port=request["port"], timeout=30)
    answer: Any = None
    match request["do"]:
        case "read":
            answer = [
                {
                    "key": meta.key.decode(),
                    "value": value.decode("latin-1"),
                    "mod_revision": meta.mod_revision,
                    "lease": meta.lease_id,
                }
                for value, meta in client.get_prefix(request["prefix"], sort_order="ascend")
            ]
        case "watch":
            events, cancel = client.watch_prefix(
                request["prefix"], start_revision=request["revision"]
            )
            answer = []
            for event in events:
                value = event.value.decode("latin-1") if isinstance(event, PutEvent) else None
                answer.append([event.mod_revision, event.key.decode(), value])
                if event.mod_revision >= request["until"]:
                    break
            cancel()
        case "write":
            lease = client.lease(60)
            for key, value in request["puts"]:
                client.put(key, value.encode("latin-1"), lease=lease if "replicas" in key else None)
            steps = [client.transactions.put(*put) for put in request["txn"]]
            client.transaction(compare=[], success=steps, failure=[])
            for key in request["deletes"]:
                client.delete(key)
            answer = {"lease": lease.id}
    print(json.dumps(answer))
    client.close()


main()
