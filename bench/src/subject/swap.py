"""The swap as a mitmproxy add-on: header, streams, one record a request."""

import json
import os
import time

from mitmproxy import http

STUB = os.environ["SWAP_STUB"]
REAL = os.environ["SWAP_REAL"]
LOG = open(os.environ["SWAP_LOG"], "a", buffering=1 << 16)


class Swap:
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.request.headers.get("authorization") != STUB:
            flow.response = http.Response.make(403)
            return
        flow.request.headers["authorization"] = REAL
        flow.request.stream = True

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        flow.response.stream = True

    def response(self, flow: http.HTTPFlow) -> None:
        record = {
            "time": time.time(),
            "method": flow.request.method,
            "path": flow.request.path.split("?")[0],
            "authority": flow.request.host,
            "status": flow.response.status_code,
        }
        LOG.write(json.dumps(record) + "\n")


addons = [Swap()]
