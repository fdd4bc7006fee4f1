#!/usr/bin/env python3
"""The service's figures: sharing between callers, the image cache, what HTTP adds, and idle connections.

A bundle in int8 with random weights of InternVL2-1B's widths, on the CPU; one image of 7 tiles, a question of 64 tokens,
responses of 128 tokens. The client runs on the same cores. Every figure is printed with its parts.

together     64 posts of one response at once, compared with one request of the 64
streamed     responses of one image one after the other: the later ones compared with the first
rate         rows of one response by 64 busy clients, compared with seeward-score on the same rows
added        latency of a small text request without its queue, preparation and engine
burst        posts of one short row, a connection each, all at once
connections  memory of idle connections
"""

import argparse
import asyncio
import concurrent.futures
import http.client
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import runtime

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["together", "streamed", "rate", "added", "burst", "connections"]
GROUP, STREAM, SMALL, BUSY = 64, 6, 300, 12


class Service:
    def __init__(self, programs, bundle, images):
        flags = ["--model", bundle, "--listen", "127.0.0.1:0", "--image-root", images, "--header-timeout", "600"]
        command = [str(part) for part in (programs / "seeward-serve", *flags)]
        log = images / "log"
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stderr=file)
        while not log.read_text().rstrip().endswith("ready"):
            if self.process.poll() is not None:
                sys.exit(f"bench/serve.py: error: the service did not start: {log.read_text()}")
            time.sleep(0.1)
        self.port = int(re.search(r"http://[\d.]+:(\d+)", log.read_text())[1])

    def ask(self, rows, connection=None):
        """The rewards of each row, and the milliseconds of each stage."""
        mine = connection or self.connect()
        mine.request("POST", "/v1/rewards", json.dumps({"requests": rows}), {"content-type": "application/json"})
        reply = mine.getresponse()
        body = json.load(reply)
        if reply.status != 200 or any("error" in result for result in body["results"]):
            sys.exit(f"bench/serve.py: error: {body}")
        stages = re.findall(r"(\w+);dur=([\d.]+)", reply.headers["server-timing"])
        if connection is None:
            mine.close()
        return [result["rewards"] for result in body["results"]], {name: float(ms) for name, ms in stages}

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def close(self):
        self.process.terminate()
        self.process.wait()


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def singles(row):
    return [{**row, "responses": [response]} for response in row["responses"]]


def at_once(service, rows, clients):
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [rewards[0] for rewards, _ in pool.map(lambda row: service.ask([row]), rows)]


def together(service, material):
    """The second image has another content, so that the cache helps neither."""
    rows = [material.row(GROUP, name)[0] for name in ("whole", "single")]
    _, whole = timed(lambda: service.ask([rows[0]]))
    got, single = timed(lambda: at_once(service, singles(rows[1]), GROUP))
    expected = service.ask([rows[1]])[0][0]
    worst = max(abs(one[0] - other) for one, other in zip(got, expected))
    if worst > 5e-2:
        sys.exit(f"bench/serve.py: error: rewards differ by {worst}")
    print(f"together: one request of {GROUP} {whole:.2f} s, {GROUP} posts at once {single:.2f} s, {single / whole:.2f}×, "
          f"rewards differ by {worst:.1e}")


def streamed(service, material):
    row, _ = material.row(STREAM, "stream")
    seconds = [timed(lambda: service.ask([one]))[1] for one in singles(row)]
    later = statistics.median(seconds[1:])
    print(f"streamed: first {seconds[0]:.2f} s, later {later:.2f} s, {later / seconds[0]:.2f}×")


def rate(service, material, programs, bundle, folder):
    rows = [material.row(1, f"busy{index}")[0] for index in range(BUSY)]
    file = folder / "busy.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output, stats = folder / "scores.jsonl", folder / "stats.json"
    runtime.run(programs / "seeward-score", "--model", bundle, "--input", file, "--output", output, "--stats", stats)
    bare = json.loads(stats.read_text())["seconds"]
    _, served = timed(lambda: at_once(service, rows, GROUP))
    print(f"rate: {BUSY} rows of unseen images by seeward-score {bare:.2f} s without loading, by the service {served:.2f} s, "
          f"{bare / served:.2f}× its rate")


def added(service):
    """Bytes that are ready before the clock starts, on one connection: Python's own HTTP client would take as long."""
    body = json.dumps({"prompt": "Is water wet?", "responses": ["Yes."]})
    request = (f"POST /v1/rewards HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
               f"content-length: {len(body)}\r\n\r\n{body}").encode()
    over = []
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(SMALL):
            reply, seconds = timed(lambda: exchange(connection, request))
            stages = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", reply)}
            over.append(seconds * 1e3 - stages["queue"] - stages["prepare"] - stages["engine"])
    over.sort()
    print(f"added: p50 {over[SMALL // 2]:.2f} ms, p99 {over[SMALL * 99 // 100]:.2f} ms")


def exchange(connection, request):
    """A small reply, which comes as a whole."""
    connection.sendall(request)
    return connection.recv(1 << 16).decode()


def allowed(most):
    """As many connections as the limit of open files allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(most, hard - 300)


def burst(service, most):
    body = json.dumps({"prompt": "Is water wet?", "responses": ["Yes."]})
    request = (f"POST /v1/rewards HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
               f"content-length: {len(body)}\r\n\r\n{body}").encode()

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(request)
        reply = await reader.read()
        writer.close()
        return reply.startswith(b"HTTP/1.1 200")

    async def all_at_once(count):
        return sum(await asyncio.gather(*(ask() for _ in range(count))))

    count = allowed(most)
    answered, seconds = timed(lambda: asyncio.run(all_at_once(count)))
    print(f"burst: {answered} of {count} posts at once answered with 200, {seconds:.1f} s, {service.memory() / 2**20:.0f} MiB")


def connections(service, most):
    count, before = allowed(most), service.memory()
    idle = []
    for _ in range(count):
        idle.append(socket.create_connection(("127.0.0.1", service.port)))
    for one in idle:
        one.sendall(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
    answered = sum(one.recv(4096).startswith(b"HTTP/1.1 200") for one in idle)
    after = service.memory()
    for one in idle:
        one.close()
    print(f"connections: {answered} of {count} answered and idle, {(after - before) / 2**20:.0f} MiB more")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="layers of each model")
    parser.add_argument("--connections", type=int, default=10_000, help="connections at once, as far as the limit of open files allows")
    parser.add_argument("--config", type=Path, default=ROOT / "tests/golden/configs/InternVL2-1B.json")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "tests/golden/models/qwen2")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    parser.add_argument("--parts", default=",".join(PARTS), help="figures to measure, separated by commas [default: all]")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"bench/serve.py: error: --parts: expected {', '.join(PARTS)}, got {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = runtime.random_checkpoint(arguments, arguments.layers, folder)
        bundle = folder / "bundle"
        runtime.run(arguments.programs / "seeward-export", "--checkpoint", checkpoint, "--output", bundle, "--target", "cpu",
                    "--quantize", "int8")
        material = runtime.Material(checkpoint, folder)
        service = Service(arguments.programs, bundle, folder)
        try:
            print(f"{arguments.layers} + {arguments.layers} layers, int8, {os.cpu_count()} cores")
            measures = {
                "together": lambda: together(service, material),
                "streamed": lambda: streamed(service, material),
                "rate": lambda: rate(service, material, arguments.programs, bundle, folder),
                "added": lambda: added(service),
                "burst": lambda: burst(service, arguments.connections),
                "connections": lambda: connections(service, arguments.connections),
            }
            for part in parts:
                measures[part]()
        finally:
            service.close()


if __name__ == "__main__":
    main()
