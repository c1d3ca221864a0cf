"""Keepstone as one more tool of a peer benchmark.

The benchmark script defines `Tool`, `Cmd` and `TOOLS`; this file adds `TOOLS["keepstone"]`. Use:

    python3 tools/peers/keepstone_adapter.py PATH/TO/bench_peers.py run --rows tree --corpora src --tools keepstone,restic

The key is a key file, as it is for peers that do not stretch a passphrase at each start.
"""
import importlib.util
import os
import sys


def adapter(bench, program):
    class Keepstone(bench.Tool):
        name = "keepstone"

        def binary(self):
            return program

        def version(self):
            return [program, "version"]

        def env(self, work):
            return {
                "KEEPSTONE_REPOSITORY": work.repo,
                "KEEPSTONE_KEY_FILE": work.dir + "/key",
                "KEEPSTONE_CACHE_DIR": work.cache,
            }

        def run(self, *arguments, **more):
            return bench.Cmd([program, "-q", *arguments], **more)

        def init(self, work):
            # The key file does not exist yet, so the environment must not name it.
            make = ["env", "-u", "KEEPSTONE_KEY_FILE", program, "-q", "init", "--generate-key-file", work.dir + "/key"]
            return [bench.Cmd(make)]

        def backup(self, work, path):
            work.name()
            return [self.run("backup", path)]

        def stdin(self, work, file):
            work.name()
            return [self.run("backup", "--stdin", "--stdin-filename", "dump.sql", stdin=file)]

        def list(self, work):
            return [self.run("ls", "latest")]

        def restore(self, work, path, dest):
            return [self.run("restore", "latest:" + path, "--target", dest)]

        def check(self, work):
            return [self.run("verify", "--all")]

        def prune(self, work, keep):
            return [self.run("forget", "--keep-last", str(keep), "--prune")]

    return Keepstone()


def main():
    path = sys.argv.pop(1)
    spec = importlib.util.spec_from_file_location("bench_peers", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    here = os.path.dirname(os.path.abspath(__file__))
    program = os.environ.get("KEEPSTONE_BIN", os.path.join(here, "../../target/release/keepstone"))
    bench.TOOLS["keepstone"] = adapter(bench, os.path.abspath(program))
    bench.main()


if __name__ == "__main__":
    main()
