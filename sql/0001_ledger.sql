-- The ledger's tables. `leveret migrate` runs this file once, in one transaction; each NOTICE is a
-- line that it prints. A processed_events table of another worker keeps its rows.

-- The key of an event, as core/event/key.c computes it: the first 128 bits of a SHA-256 over the
-- four, each after its length in bytes as 32 bits.
CREATE FUNCTION pg_temp.leveret_key(name text, queue text, type text, id text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $key$
    SELECT encode(substring(sha256(
        int4send(octet_length(convert_to(name, 'UTF8'))) || convert_to(name, 'UTF8') ||
        int4send(octet_length(convert_to(queue, 'UTF8'))) || convert_to(queue, 'UTF8') ||
        int4send(octet_length(convert_to(type, 'UTF8'))) || convert_to(type, 'UTF8') ||
        int4send(octet_length(convert_to(id, 'UTF8'))) || convert_to(id, 'UTF8'))
        FROM 1 FOR 16), 'hex')::uuid
$key$;

DO $migration$
DECLARE
    item record;
    count_of_rows bigint;
    collapsed bigint;
BEGIN
    IF to_regclass('processed_events') IS NULL THEN
        CREATE TABLE processed_events (
            id uuid PRIMARY KEY,
            event_id text NOT NULL,
            event_type text NOT NULL,
            processed_at timestamp NOT NULL DEFAULT timezone('utc', now()),
            processor_name text NOT NULL,
            queue text NOT NULL DEFAULT ''
        );
        RAISE NOTICE 'created the table processed_events';
    ELSE
        RAISE NOTICE 'found a table processed_events: stop the worker that made it, if it still runs, and do not start it again';
        LOCK TABLE processed_events IN ACCESS EXCLUSIVE MODE;
        ALTER TABLE processed_events ADD COLUMN queue text NOT NULL DEFAULT '';
        ALTER TABLE processed_events ALTER COLUMN id DROP DEFAULT;
        ALTER TABLE processed_events ALTER COLUMN processed_at SET DEFAULT timezone('utc', now());
        FOR item IN SELECT conname FROM pg_constraint
            WHERE conrelid = 'processed_events'::regclass AND contype IN ('p', 'u')
        LOOP
            EXECUTE format('ALTER TABLE processed_events DROP CONSTRAINT %I', item.conname);
            RAISE NOTICE 'dropped the constraint %', item.conname;
        END LOOP;
        FOR item IN SELECT indexrelid::regclass AS name FROM pg_index
            WHERE indrelid = 'processed_events'::regclass AND indisunique
        LOOP
            EXECUTE format('DROP INDEX %s', item.name);
            RAISE NOTICE 'dropped the unique index %', item.name;
        END LOOP;
        UPDATE processed_events
            SET id = pg_temp.leveret_key(processor_name, '', event_type, event_id);
        GET DIAGNOSTICS count_of_rows = ROW_COUNT;
        DELETE FROM processed_events older USING processed_events newer
            WHERE older.id = newer.id
            AND (older.processed_at, older.ctid) < (newer.processed_at, newer.ctid);
        GET DIAGNOSTICS collapsed = ROW_COUNT;
        ALTER TABLE processed_events ADD PRIMARY KEY (id);
        RAISE NOTICE 'kept % rows, which count for every queue', count_of_rows - collapsed;
        IF collapsed > 0 THEN
            RAISE NOTICE 'dropped % rows that repeated another', collapsed;
        END IF;
        UPDATE leveret_schema SET legacy_newest = (SELECT max(processed_at) FROM processed_events);
    END IF;

    CREATE INDEX processed_events_processed_at ON processed_events
        USING brin (processed_at) WITH (autosummarize = on);

    CREATE TABLE pending_invalidations (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pattern text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    RAISE NOTICE 'created the table pending_invalidations';
END
$migration$;

DROP FUNCTION pg_temp.leveret_key(text, text, text, text);
