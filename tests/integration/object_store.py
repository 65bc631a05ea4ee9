"""A real S3 server (moto) in a process of its own, with one empty bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}

SERVE = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
server._thread.join()
"""


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """Serve a bucket while the context lasts; its URI as ``storage`` takes it."""
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=log, text=True
        )
    former = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    try:
        assert process.stdout is not None
        port = next((line.split()[1] for line in process.stdout if line.startswith("port ")), None)
        assert port is not None, (folder / "s3.log").read_text()[-2000:]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            pass
        yield f"s3://bucket/runs?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        process.kill()
        process.wait()
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
