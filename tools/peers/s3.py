#!/usr/bin/env python3
"""Keepstone beside restic and rustic on one S3 server (SeaweedFS on loopback), and what each asks of it.

    tools/peers/s3.py --corpus FOLDER --weed PROGRAM --restic PROGRAM --rustic PROGRAM --runs 3

Each tool makes a first backup (page cache dropped where that is allowed), backs up again with nothing changed, lists,
restores into an empty folder and checks all data. Times and peak memory (largest process) come from runs that talk to
the server itself; requests are counted in one more run through a proxy that passes everything on. `--delay MS` lets that
proxy hold each request back, and then times are taken through it as well. Prints one Markdown table; each measurement
is also a line of JSON in OUT/results.jsonl. Programs that are not there are left out.

Only loopback is talked to. As root, the server runs as `nobody`.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KEY, SECRET = "labkey", "labsecret0123456"
PASSWORD = "correct horse battery staple"
STEPS = ["first", "unchanged", "list", "restore", "check"]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


# ------------------------------------------------------------------------------------------------ the server


class Server:
    """SeaweedFS in a folder of its own, stopped by `stop`."""

    def __init__(self, program, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        identity = {
            "name": "lab",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        with open(folder + "/s3.json", "w") as out:
            json.dump({"identities": [identity]}, out)
        local = shutil.copy(program, folder + "/weed")
        ports = free_ports(8)
        self.port = ports[6]
        names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
        names += ["s3.port", "s3.port.grpc"]
        argv = [local, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
        argv += ["-volume.max=200", "-volume.minFreeSpace=1", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false"]
        argv += ["-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/s3.json"]
        argv += [f"-{name}={port}" for name, port in zip(names, ports)]
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:nogroup", folder], check=True)
            os.chmod(folder, 0o755)
            argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *argv]
        log = open(folder + ".log", "wb")
        self.process = subprocess.Popen(
            argv, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "HOME": folder}
        )
        for _ in range(600):
            if self.answers():
                break
            time.sleep(0.1)
        else:
            sys.exit(f"the server did not start: see {folder}.log")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return s.recv(4) == b"HTTP"
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------------- the proxy


class Proxy:
    """Passes requests on, counts them by method, and may hold each back for a while."""

    def __init__(self, to_port, delay_s):
        self.to_port, self.delay_s = to_port, delay_s
        self.lock = threading.Lock()
        self.counts = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def take_counts(self):
        with self.lock:
            counts, self.counts = self.counts, {}
        return counts

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.to_port))
        except OSError:
            client.close()
            return
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=copy_all, args=(server, client), daemon=True).start()
        try:
            self.requests(client, server)
        except OSError:
            pass
        for s in (client, server):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def requests(self, client, server):
        reader = client.makefile("rb", buffering=1 << 18)
        while True:
            head = read_head(reader)
            if head is None:
                return
            method = head.split(b" ", 1)[0].decode()
            with self.lock:
                self.counts[method] = self.counts.get(method, 0) + 1
            if self.delay_s:
                time.sleep(self.delay_s)
            server.sendall(head)
            fields = dict(
                (name.strip().lower(), value.strip())
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            )
            if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
                pass_chunks(reader, server)
            else:
                pass_bytes(reader, server, int(fields.get(b"content-length", b"0")))


def read_head(reader):
    lines = []
    while True:
        line = reader.readline(1 << 16)
        if not line:
            return None
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)


def pass_bytes(reader, server, left):
    while left > 0:
        piece = reader.read1(min(left, 1 << 18))
        if not piece:
            return
        server.sendall(piece)
        left -= len(piece)


def pass_chunks(reader, server):
    while True:
        line = reader.readline(1 << 16)
        server.sendall(line)
        size = int(line.split(b";")[0], 16)
        pass_bytes(reader, server, size + 2)
        if size == 0:
            return


def copy_all(source, target):
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    try:
        while count := source.recv_into(buffer):
            target.sendall(view[:count])
    except OSError:
        pass
    for s in (source, target):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


# ------------------------------------------------------------------------------------------------- the tools


class Keepstone:
    name = "Keepstone"

    def __init__(self, program):
        self.program = program

    def environment(self, place):
        return {
            "KEEPSTONE_REPOSITORY": f"s3:http://127.0.0.1:{place.port}/{place.bucket}/vault",
            "KEEPSTONE_CACHE_DIR": place.cache,
            "KEEPSTONE_KEY_FILE": place.folder + "/key",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *arguments):
        return [self.program, "-q", *arguments]

    def init(self, place):
        make = self.run("init", "--generate-key-file", place.folder + "/key")
        return ["env", "-u", "KEEPSTONE_KEY_FILE", *make]

    def commands(self, corpus, target):
        backup = self.run("backup", corpus)
        return {
            "first": backup,
            "unchanged": backup,
            "list": self.run("ls", "latest"),
            "restore": self.run("restore", "latest:" + corpus, "--target", target),
            "check": self.run("verify", "--all"),
        }


class Restic:
    name = "restic"

    def __init__(self, program):
        self.program = program

    def environment(self, place):
        return {
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": place.cache,
            "RESTIC_REPOSITORY": f"s3:http://127.0.0.1:{place.port}/{place.bucket}/restic",
            "RESTIC_PROGRESS_FPS": "0.1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def run(self, *arguments):
        return [self.program, "-q", *arguments]

    def init(self, _):
        return self.run("init")

    def commands(self, corpus, target):
        backup = self.run("backup", corpus)
        return {
            "first": backup,
            "unchanged": backup,
            "list": self.run("ls", "latest"),
            "restore": self.run("restore", "latest:" + corpus, "--target", target),
            "check": self.run("check", "--read-data"),
        }


class Rustic:
    name = "rustic"

    def __init__(self, program):
        self.program = program

    def environment(self, place):
        return {
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_CACHE_DIR": place.cache,
            "RUSTIC_REPOSITORY": "opendal:s3",
            "RUSTIC_NO_PROGRESS": "true",
            "RUSTIC_LOG_LEVEL": "warn",
            "HOME": place.folder,
            "OPENDAL_BUCKET": place.bucket,
            "OPENDAL_ENDPOINT": f"http://127.0.0.1:{place.port}",
            "OPENDAL_REGION": "us-east-1",
            "OPENDAL_ROOT": "/rustic",
            "OPENDAL_ACCESS_KEY_ID": KEY,
            "OPENDAL_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def init(self, _):
        return [self.program, "init"]

    def commands(self, corpus, target):
        backup = [self.program, "backup", corpus]
        return {
            "first": backup,
            "unchanged": backup,
            "list": [self.program, "ls", "latest"],
            "restore": [self.program, "restore", "latest:" + corpus, target],
            "check": [self.program, "check", "--read-data"],
        }


class Place:
    """A repository of one tool, its cache, and the port that leads to it."""

    def __init__(self, work, tool, run, port):
        self.folder = f"{work}/{tool.name.lower()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.cache = self.folder + "/cache"
        os.makedirs(self.cache)
        self.bucket, self.port = f"bench-{tool.name.lower()}-{run}", port


# --------------------------------------------------------------------------------------------- the measuring


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as out:
            out.write("3")
    except OSError:
        pass


def execute(argv, environment, log):
    """Wall and processor seconds and the peak memory of a command; ends everything if it fails."""
    # GNU time is the direct parent, so that the peak is not that of this script.
    figures = log + ".time"
    timed = ["/usr/bin/time", "-q", "-o", figures, "-f", "%U %S %M", *argv]
    began = time.time()
    with open(log, "ab") as out:
        code = subprocess.run(timed, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    wall = time.time() - began
    if code.returncode != 0:
        sys.exit(f"{' '.join(argv[:4])} ended with {code.returncode}: see {log}")
    user, system, peak = open(figures).read().split()[-3:]
    return {"wall": wall, "cpu": float(user) + float(system), "peak_mib": int(peak) / 1024}


def compare(corpus, target):
    """Names how many of 100 files, chosen by lot, did not come back as they were."""
    files = []
    for folder, _, names in os.walk(corpus):
        files += [os.path.join(folder, name) for name in names if not os.path.islink(os.path.join(folder, name))]
    chosen = random.Random(1).sample(files, min(100, len(files)))
    roots = [target, target + corpus, os.path.join(target, os.path.basename(corpus))]
    digest = lambda path: hashlib.sha256(open(path, "rb").read()).digest()

    def came_back(path):
        beneath = path[len(corpus) :]
        there = [root + beneath for root in roots if os.path.exists(root + beneath)]
        return bool(there) and digest(there[0]) == digest(path)

    return sum(not came_back(path) for path in chosen)


def measure(arguments, tool, run, port, proxy, out):
    place = Place(arguments.work, tool, run, port)
    environment = tool.environment(place)
    log = f"{arguments.work}/{tool.name.lower()}.log"
    execute(tool.init(place), environment, log)
    target = arguments.work + "/restored"
    for step in STEPS:
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        if step in ("first", "restore", "check"):
            drop_caches()
        if proxy:
            proxy.take_counts()
        figures = execute(tool.commands(arguments.corpus, target)[step], environment, log)
        if proxy:
            figures["requests"] = proxy.take_counts()
        if step == "restore":
            wrong = compare(arguments.corpus, target)
            if wrong:
                sys.exit(f"{tool.name}: {wrong} of 100 restored files are not as they were")
        line = {"tool": tool.name, "step": step, "run": run, "counted": bool(proxy), **figures}
        out.write(json.dumps(line) + "\n")
        out.flush()
        print(line, file=sys.stderr, flush=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(place.folder, ignore_errors=True)


def table(lines, tools, corpus_bytes, delay_ms):
    print(f"\n| job | {' | '.join(tool.name for tool in tools)} |\n| --- |{' --- |' * len(tools)}")
    for step in STEPS:
        cells = []
        for tool in tools:
            of = [line for line in lines if line["tool"] == tool.name and line["step"] == step]
            timed = [line for line in of if bool(delay_ms) == line["counted"]]
            counted = [line["requests"] for line in of if line["counted"]]
            median = lambda name: statistics.median(line[name] for line in timed)
            requests = counted[0] if counted else {}
            shares = ", ".join(f"{count} {method}" for method, count in sorted(requests.items()))
            cells.append(
                f"{median('wall'):.2f} s, {median('cpu'):.2f} s CPU, {max(line['peak_mib'] for line in timed):.0f} MiB, "
                f"{sum(requests.values())} requests ({shares})"
            )
        print(f"| {step} | {' | '.join(cells)} |")
    totals = []
    for tool in tools:
        counted = [line for line in lines if line["tool"] == tool.name and line["counted"] and line["step"] in ("first", "restore")]
        total = sum(sum(line["requests"].values()) for line in counted)
        totals.append(f"{total / (corpus_bytes / 1e9):.0f}")
    print(f"| requests per GB of source, first and restore | {' | '.join(totals)} |")


def bytes_below(folder):
    total = 0
    for at, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(at, name)).st_size for name in names)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="the folder to back up")
    parser.add_argument("--weed", required=True, help="the program of SeaweedFS")
    parser.add_argument("--keepstone", default=os.path.join(HERE, "../../target/release/keepstone"))
    parser.add_argument("--restic", default="restic")
    parser.add_argument("--rustic", default="rustic")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each tool")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds that each request is held back")
    parser.add_argument("--work", default="s3-bench", help="a folder for everything that is made")
    arguments = parser.parse_args()
    arguments.work = os.path.abspath(arguments.work)
    arguments.corpus = os.path.abspath(arguments.corpus)
    os.makedirs(arguments.work, exist_ok=True)
    candidates = [Keepstone(arguments.keepstone), Restic(arguments.restic), Rustic(arguments.rustic)]
    tools = []
    for tool in candidates:
        found = shutil.which(tool.program)
        if found:
            tool.program = os.path.abspath(found)
            tools.append(tool)
        else:
            print(f"{tool.name} is not there: left out", file=sys.stderr)
    server = Server(shutil.which(arguments.weed) or arguments.weed, arguments.work + "/server")
    try:
        with open(arguments.work + "/results.jsonl", "a") as out:
            began = out.tell()
            if not arguments.delay:
                for run in range(1, arguments.runs + 1):
                    turn = (run - 1) % len(tools)
                    for tool in tools[turn:] + tools[:turn]:
                        measure(arguments, tool, run, server.port, None, out)
            proxy = Proxy(server.port, arguments.delay / 1000)
            for run in range(1, (arguments.runs if arguments.delay else 1) + 1):
                for tool in tools:
                    measure(arguments, tool, f"{run}-counted", proxy.port, proxy, out)
        with open(arguments.work + "/results.jsonl") as results:
            results.seek(began)
            lines = [json.loads(line) for line in results]
        table(lines, tools, bytes_below(arguments.corpus), arguments.delay)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
