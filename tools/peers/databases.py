#!/usr/bin/env python3
"""Nights of a PostgreSQL database beside `pg_dump | restic` and `pg_restore`, in one run.

    PGHOST=... PGPORT=... PGUSER=... tools/peers/databases.py shop --make 1000 --nights 3 --rounds 3 \\
        --keepstone target/release/keepstone --restic restic

Needs a running server and a superuser. With --make the database is made, about so many megabytes large on the server's
disk, and before each further night 1 % of its rows are updated, 1 % added and 0.3 % deleted, scattered. Without it the
database must be there, and --evolve may name a command that changes it.

Each figure is that of whole processes: wall clock, processor time of the tools, processor time of the server (where it
runs on this machine), and the peak memory of the largest process; bytes are what the repository folder grew by. Restores
are made in turn, --rounds times, so that a busy moment does not hit only one of them. At the end stand the middle of each
and the goals.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PASSWORD = "only-for-measuring"

# About 8 MB of tables and indexes on the server's disk for each unit of SCALE: wide rows, narrow rows, documents.
MAKE = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text, email text, balance numeric(12,2), notes text, updated timestamp);
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, number uuid, status text, total numeric(12,2), items jsonb, updated timestamp);
CREATE TABLE events (id bigint PRIMARY KEY, session uuid, customer bigint, kind text, at timestamp, agent text, payload jsonb);
CREATE TABLE accounts (id int PRIMARY KEY, branch int, balance int, filler char(84));
INSERT INTO customers SELECT i, 'customer ' || md5(i::text), md5('m' || i) || '@example.org', (i * 7 % 100000) / 100.0,
    repeat(md5('n' || i) || ' ', 1 + i % 8), timestamp '2026-01-01' FROM generate_series(1, 1500 * SCALE) i ORDER BY md5(i::text);
INSERT INTO orders SELECT i, 1 + i::bigint * 7919 % (1500 * SCALE), md5('o' || i)::uuid, (ARRAY['paid','packed','shipped'])[1 + i % 3], (i * 13 % 1000000) / 100.0,
    jsonb_build_array(jsonb_build_object('sku', substr(md5('s' || i), 1, 8), 'count', i % 5), jsonb_build_object('sku', substr(md5('t' || i), 1, 8), 'count', 1)),
    timestamp '2026-01-01' + i * interval '1 second' FROM generate_series(1, 10000 * SCALE) i ORDER BY md5(i::text);
INSERT INTO events SELECT i, md5('e' || i / 20)::uuid, 1 + i::bigint * 104729 % (1500 * SCALE), (ARRAY['view','click','buy'])[1 + i % 3],
    timestamp '2026-01-01' + i * interval '1 second', 'Mozilla/5.0 (X11; Linux x86_64) ' || i % 90,
    jsonb_build_object('path', '/' || substr(md5('p' || i), 1, 12), 'ms', i % 4000) FROM generate_series(1, 9000 * SCALE) i ORDER BY md5(i::text);
INSERT INTO accounts SELECT i, 1 + i % 30, 0, '' FROM generate_series(1, 20000 * SCALE) i;
CREATE INDEX ON orders (customer);
CREATE INDEX ON events (customer);
CREATE INDEX ON events (at);
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers;
VACUUM ANALYZE;
"""

EVOLVE = """
SELECT setseed(0.NIGHT);
UPDATE accounts SET balance = balance + (random() * 10000)::int WHERE random() < 0.01;
UPDATE customers SET balance = balance + 1, updated = now() WHERE random() < 0.01;
UPDATE orders SET status = 'returned', updated = now() WHERE random() < 0.01;
UPDATE events SET payload = payload || jsonb_build_object('seen', NIGHT) WHERE random() < 0.01;
DELETE FROM accounts WHERE random() < 0.003;
DELETE FROM orders WHERE random() < 0.003;
DELETE FROM events WHERE random() < 0.003;
INSERT INTO accounts SELECT (SELECT max(id) FROM accounts) + i, 1 + i % 30, 0, '' FROM generate_series(1, 200 * SCALE) i;
INSERT INTO orders SELECT (SELECT max(id) FROM orders) + i, 1 + i % (1500 * SCALE), md5('NIGHT' || i)::uuid, 'paid', i, '[]', now() FROM generate_series(1, 100 * SCALE) i;
INSERT INTO events SELECT (SELECT max(id) FROM events) + i, md5('NIGHT' || i)::uuid, 1, 'view', now(), 'x', '{}' FROM generate_series(1, 90 * SCALE) i;
VACUUM;
"""


def sql(database, text):
    arguments = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database]
    return subprocess.run(arguments, input=text, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def server_processor():
    """Processor seconds of the server since it was started, all its processes together; 0 where that cannot be seen."""
    try:
        server = sql("postgres", "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)")
        parts = stat_of(server)
        ticks = sum(int(part) for part in parts[11:15])
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                child = stat_of(name)
            except OSError:
                continue
            if child[1] == server:
                ticks += int(child[11]) + int(child[12])
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, subprocess.CalledProcessError):
        return 0.0


def stat_of(process):
    with open(f"/proc/{process}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()


class Figures:
    """What was measured of one job."""

    def __init__(self, seconds, processor, server, peak):
        self.seconds, self.processor, self.server, self.peak = seconds, processor, server, peak


def measured(*commands, environment=None):
    """Runs commands one after the other, or as a pipe if two are given as a list of two."""
    server, begun = server_processor(), time.monotonic()
    processor = peak = 0
    for command in commands:
        pipe = command if isinstance(command[0], list) else [command]
        children, before = [], None
        for position, arguments in enumerate(pipe):
            last = position == len(pipe) - 1
            output = subprocess.DEVNULL if last else subprocess.PIPE
            children.append(subprocess.Popen(arguments, env=environment, stdin=before, stdout=output))
            if before is not None:
                before.close()
            before = children[-1].stdout
        for child, arguments in zip(reversed(children), reversed(pipe)):
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                sys.exit(f"{' '.join(arguments)} ended with {child.returncode}")
            processor += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss / 1024)
    seconds = time.monotonic() - begun
    return Figures(seconds, processor, server_processor() - server, peak)


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
        backup = self.command("backup", "--postgres", self.url, "--workers", self.workers)
        return measured(backup, environment=self.environment)

    def restore(self, url, *more):
        restore = self.command("restore", "latest", "--to-postgres", url, "--create", "-j2", *more)
        return measured(restore, environment=self.environment)


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
        backup = [self.program, "-q", "backup", "--stdin", "--stdin-filename", "shop.dump"]
        return measured([["pg_dump", "-Fc", "-Z0", self.database], backup], environment=self.environment)


def line(what, name, figures, added=None):
    grown = "" if added is None else f"  added {added / 1e6:8.1f} MB"
    print(
        f"{what:10} {name:26} {figures.seconds:7.1f} s  {figures.processor:7.1f} s CPU"
        f"  {figures.server:7.1f} s server  {figures.peak:6.0f} MiB{grown}",
        flush=True,
    )


def make(database, megabytes):
    scale = max(1, round(megabytes / 8.07))
    subprocess.run(["dropdb", "--if-exists", database], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["createdb", database], check=True)
    sql(database, MAKE.replace("SCALE", str(scale)))
    size = int(sql(database, "SELECT pg_database_size(current_database())"))
    print(f"{database}: {size / 1e6:.0f} MB on the server's disk", flush=True)
    return scale


def evolve(options, scale, night):
    if scale:
        sql(options.database, EVOLVE.replace("NIGHT", str(night)).replace("SCALE", str(scale)))
    elif options.evolve:
        subprocess.run(options.evolve.format(night=night), shell=True, check=True)


def nights(options, scale, tools):
    """What each tool took for each night, and what its repository grew by."""
    taken = {tool: [] for tool in tools}
    for night in range(1, options.nights + 1):
        if night > 1:
            evolve(options, scale, night)
        for tool in tools:
            before = size_of(tool.repository)
            figures = tool.night()
            added = size_of(tool.repository) - before
            taken[tool].append((figures, added))
            line(f"night {night}", tool.name, figures, added)
    return taken


def restores(options, folder, keepstone, place):
    """What each way back took, in turn."""
    archive, copy = os.path.join(folder, "archive"), options.database + "_copy"
    subprocess.run(["pg_dump", "-Fd", "-j2", "-f", archive, options.database], check=True)
    restore = ["pg_restore", "-j2", "-d", copy, archive]
    ways = {
        "pg_restore -j2": lambda: measured(["createdb", copy], restore),
        "… and vacuumdb -Z -j2": lambda: measured(["createdb", copy], restore, ["vacuumdb", "-qZ", "-j2", copy]),
        "keepstone --no-analyze": lambda: keepstone.restore(f"{place} dbname={copy}", "--no-analyze"),
        "keepstone": lambda: keepstone.restore(f"{place} dbname={copy}"),
    }
    taken = {name: [] for name in ways}
    for round_ in range(1, options.rounds + 1):
        for name, way in ways.items():
            sql("postgres", "CHECKPOINT")
            taken[name].append(way())
            line(f"restore {round_}", name, taken[name][-1])
            subprocess.run(["dropdb", copy], check=True)
    shutil.rmtree(archive)
    return taken


def middle(figures, of):
    return statistics.median(getattr(one, of) for one in figures)


def goal(text, ours, theirs, factor=1.0):
    verdict = "met" if ours <= theirs * factor else "NOT MET"
    print(f"goal       {text}: {ours:.2f} against {theirs:.2f} ({ours / theirs:.2f}): {verdict}")


def conclude(taken, back):
    restic, one, two = ([pair for pair in pairs[1:]] or pairs for pairs in taken.values())
    of = lambda pairs, what: middle([figures for figures, _ in pairs], what)
    goal("a night takes no longer, 1 worker, seconds", of(one, "seconds"), of(restic, "seconds"))
    goal("2 workers are faster than 1, seconds", of(two, "seconds"), of(one, "seconds"))
    added = lambda pairs: statistics.median(added for _, added in pairs) / 1e6
    goal("a later night adds at most 1/15, MB", max(added(one), added(two)), added(restic), 1 / 15)
    peak = max(figures.peak for pairs in list(taken.values())[1:] for figures, _ in pairs)
    peak = max([peak] + [figures.peak for name in back if name.startswith("keepstone") for figures in back[name]])
    goal("memory, MiB", peak, 128)
    for what in ("seconds", "processor", "server"):
        pairs = [("keepstone --no-analyze", "pg_restore -j2"), ("keepstone", "… and vacuumdb -Z -j2")]
        for ours, theirs in pairs:
            if middle(back[theirs], what):
                goal(f"{ours} beside {theirs}, {what}", middle(back[ours], what), middle(back[theirs], what))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database")
    parser.add_argument("--make", type=float, metavar="MB", help="make the database first, about so large")
    parser.add_argument("--url", help="the database as keepstone is told [default: made from PGHOST, PGPORT, PGUSER]")
    parser.add_argument("--keepstone", default="target/release/keepstone")
    parser.add_argument("--restic", default="restic")
    parser.add_argument("--evolve", help="command that changes the database before night {night}")
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="restores of each kind")
    parser.add_argument("--folder", help="where repositories go [default: a temporary folder]")
    options = parser.parse_args()
    place = "host={PGHOST} port={PGPORT} user={PGUSER}".format(
        **{key: os.environ.get(key, "") for key in ("PGHOST", "PGPORT", "PGUSER")}
    )
    url = options.url or f"{place} dbname={options.database}"
    scale = make(options.database, options.make) if options.make else None
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tools = [Restic(options.restic, folder, options.database)]
        tools += [Keepstone(options.keepstone, folder, url, workers) for workers in (1, 2)]
        for tool in tools:
            tool.prepare()
        taken = nights(options, scale, tools)
        conclude(taken, restores(options, folder, tools[-1], place))


if __name__ == "__main__":
    main()
