-- A database full of odd objects: what a dump can get wrong.
CREATE SCHEMA "Sales . Ünit";
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE "we""ird
name" ("col ""1""" int PRIMARY KEY, "tab	col" text, "select" mood, "ö" positive);
INSERT INTO "we""ird
name" VALUES (1, E'a\tb\nc\\d\r', 'happy', 1), (2, NULL, NULL, NULL), (3, '', 'it''s ok', 7), (4, '\N', 'sad', 2);
CREATE TABLE "Sales . Ünit"."a/b%c" (id bigint GENERATED ALWAYS AS IDENTITY, v text DEFAULT 'x',
    twice bigint GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO "Sales . Ünit"."a/b%c" (v) SELECT repeat('x', n) FROM generate_series(1, 50) n;
CREATE TABLE dropped (a int, gone text, b float8, c float4, d numeric, e interval, f timestamptz, g bytea, h int[][],
    i jsonb, j pair, k text[], l date, m money, n xml, o tsvector, p bit(3), q inet, r point);
ALTER TABLE dropped DROP COLUMN gone;
ALTER TABLE dropped ADD COLUMN late uuid DEFAULT '00000000-0000-0000-0000-00000000000a';
INSERT INTO dropped VALUES
    (1, 'NaN', 'inf', 'NaN', '1 year -3 days 00:00:00.1', '2020-02-29 12:00:00.123456+02', '\x00ff5c0a09', '{{1,2},{3,NULL}}',
     '{"a": "\n\t\\"}', '(1,"x,\"y")', ARRAY['a,b', NULL, '"', E'\\', ''], '4713-01-01 BC', '12.34', '<a>&lt;</a>',
     'fat cat'::tsvector, B'101', '::1/64', '(1e-300,2)'),
    (2, '-Infinity', 1e-40, '1e100', NULL, '-infinity', '', '{}', 'null', NULL, '{}', 'infinity', NULL, NULL, '', NULL, NULL, NULL),
    (3, 0.1::float8 + 0.2::float8, 0.1, 0.000, '0', 'infinity', NULL, NULL, NULL, '(,)', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE parent (id int PRIMARY KEY, s text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p');
INSERT INTO child VALUES (2, 'c', 3), (3, 'c', 4);
CREATE TABLE log (at date, n int, t text) PARTITION BY RANGE (at);
CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log_rest (t text, n int, at date);
ALTER TABLE log ATTACH PARTITION log_rest DEFAULT;
CREATE TABLE log_deep PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (n);
CREATE TABLE log_deep_1 PARTITION OF log_deep FOR VALUES IN (1);
INSERT INTO log SELECT '2023-12-01'::date + n * 10, 1, 'row ' || n FROM generate_series(1, 70) n;
CREATE UNLOGGED TABLE fleeting (n int);
INSERT INTO fleeting VALUES (1), (2);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE all_generated (g int GENERATED ALWAYS AS (1) STORED);
INSERT INTO all_generated DEFAULT VALUES;
CREATE TABLE empty (n int UNIQUE);
CREATE TABLE serial (id serial PRIMARY KEY, parent int REFERENCES parent DEFERRABLE);
INSERT INTO serial (parent) VALUES (1), (NULL);
CREATE SEQUENCE "odd seq" AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 100 START 9 CYCLE;
SELECT nextval('"odd seq"'), nextval('"odd seq"');
CREATE SEQUENCE untouched START 5;
CREATE INDEX ON parent (lower(s)) WHERE id > 0;
CREATE VIEW seen AS SELECT * FROM parent;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM parent;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
CREATE TRIGGER never BEFORE INSERT ON empty FOR EACH ROW EXECUTE FUNCTION noted();
CREATE RULE no_delete AS ON DELETE TO serial DO INSTEAD NOTHING;
CREATE PUBLICATION news FOR TABLE parent, child;
CREATE STATISTICS about ON id, s FROM parent;
COMMENT ON COLUMN parent.s IS E'it''s \\ commented';
GRANT SELECT (id) ON parent TO PUBLIC;
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON parent USING (id < 10);
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC;
SELECT lo_from_bytea(4711, '\x00ff0a5c'), lo_from_bytea(0, convert_to(repeat('large', 100000), 'UTF8'));
COMMENT ON LARGE OBJECT 4711 IS 'large';
