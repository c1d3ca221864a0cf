#!/usr/bin/env python3
"""Nights of a PostgreSQL database beside `pg_dump | restic` and `pg_restore`, in one run.

    PGHOST=... PGPORT=... PGUSER=... tools/peers/databases.py shop --keepstone target/release/keepstone \\
        --restic restic --evolve 'make_series.sh evolve {night} 1 1 0.3' --nights 3

Needs a running server with the database, and rights to create others. Each figure is that of whole processes: wall
clock, processor time and the peak memory of the largest one; bytes are what the repository folder grew by.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

PASSWORD = "only-for-measuring"


def measured(arguments, environment, stdin=None, quiet=True):
    """Runs one process to its end: (seconds, processor seconds, peak MiB)."""
    begun = time.monotonic()
    output = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen(arguments, env=environment, stdin=stdin, stdout=output)
    if stdin is not None:
        stdin.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {child.returncode}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


class Keepstone:
    def __init__(self, program, folder, url, workers):
        self.name = f"keepstone, {workers} worker" + "s" * (workers > 1)
        self.program, self.url, self.workers = program, url, str(workers)
        self.repository = os.path.join(folder, f"keepstone-{workers}")
        self.environment = dict(os.environ, KEEPSTONE_PASSWORD=PASSWORD, KEEPSTONE_CACHE_DIR=self.repository + ".cache")

    def command(self, *arguments):
        return [self.program, "-q", "-r", self.repository, *arguments]

    def prepare(self):
        subprocess.run(self.command("init"), env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def night(self):
        return measured(self.command("backup", "--postgres", self.url, "--workers", self.workers), self.environment)

    def restore(self, url):
        return measured(self.command("restore", "latest", "--to-postgres", url, "--create"), self.environment)


class Restic:
    def __init__(self, program, folder, database):
        self.name, self.program, self.database = "pg_dump -Fc -Z0 | restic", program, database
        self.repository = os.path.join(folder, "restic")
        self.environment = dict(
            os.environ,
            RESTIC_REPOSITORY=self.repository,
            RESTIC_PASSWORD=PASSWORD,
            RESTIC_CACHE_DIR=self.repository + ".cache",
        )

    def prepare(self):
        subprocess.run([self.program, "-q", "init"], env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def night(self):
        dump = subprocess.Popen(["pg_dump", "-Fc", "-Z0", self.database], stdout=subprocess.PIPE)
        arguments = [self.program, "-q", "backup", "--stdin", "--stdin-filename", "shop.dump"]
        figures = measured(arguments, self.environment, stdin=dump.stdout)
        _, status, usage = os.wait4(dump.pid, 0)
        dump.returncode = os.waitstatus_to_exitcode(status)
        if dump.returncode != 0:
            sys.exit(f"pg_dump ended with {dump.returncode}")
        return figures[0], figures[1] + usage.ru_utime + usage.ru_stime, figures[2]


def pg_restore(folder, database, copy):
    """Restores a directory dump with two jobs."""
    archive = os.path.join(folder, "archive")
    subprocess.run(["pg_dump", "-Fd", "-j2", "-f", archive, database], check=True)
    subprocess.run(["createdb", copy], check=True)
    figures = measured(["pg_restore", "-j2", "-d", copy, archive], dict(os.environ))
    shutil.rmtree(archive)
    return figures


def line(what, name, figures, added=None):
    seconds, processor, peak = figures
    grown = "" if added is None else f"  added {added / 1e6:8.1f} MB"
    print(f"{what:10} {name:26} {seconds:7.1f} s  {processor:7.1f} s CPU  {peak:6.0f} MiB{grown}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database")
    parser.add_argument("--url", help="the database as keepstone is told [default: made from PGHOST, PGPORT, PGUSER]")
    parser.add_argument("--keepstone", default="target/release/keepstone")
    parser.add_argument("--restic", default="restic")
    parser.add_argument("--evolve", help="command that changes the database before night {night}")
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--folder", help="where repositories go [default: a temporary folder]")
    options = parser.parse_args()
    place = {key: os.environ.get(key, "") for key in ("PGHOST", "PGPORT", "PGUSER")}
    conninfo = "host={PGHOST} port={PGPORT} user={PGUSER}".format(**place)
    url = options.url or f"{conninfo} dbname={options.database}"
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tools = [Restic(options.restic, folder, options.database)]
        tools += [Keepstone(options.keepstone, folder, url, workers) for workers in (1, 2)]
        for tool in tools:
            tool.prepare()
        for night in range(1, options.nights + 1):
            if night > 1 and options.evolve:
                subprocess.run(options.evolve.format(night=night), shell=True, check=True)
            for tool in tools:
                before = size_of(tool.repository)
                figures = tool.night()
                line(f"night {night}", tool.name, figures, size_of(tool.repository) - before)
        copy = options.database + "_copy"
        line("restore", "pg_restore -j2", pg_restore(folder, options.database, copy))
        subprocess.run(["dropdb", copy], check=True)
        line("restore", tools[-1].name, tools[-1].restore(f"{conninfo} dbname={copy}"))
        subprocess.run(["dropdb", copy], check=True)


if __name__ == "__main__":
    main()
