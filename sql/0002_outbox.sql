-- The transactional outbox: events that are published exactly when the transaction commits that
-- wrote them. A worker relays what stands here to RabbitMQ; see leveret_publish at the end.

-- A UUID of version 7: milliseconds since 1970 in its first 48 bits, chance in the rest.
CREATE FUNCTION leveret_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $uuid$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$uuid$;

CREATE TABLE outbox (
    -- Not the order of commits: a row may become visible after others with higher numbers. Rows
    -- whose writers waited for one another have theirs in the order of their commits.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event text NOT NULL,
    payload json NOT NULL,
    event_id text NOT NULL DEFAULT leveret_uuid7()::text,
    key text NOT NULL DEFAULT '',     -- rows of one key leave one after the other; '' is no key
    exchange text,                    -- NULL: the one that the worker's configuration names
    queue text,                       -- straight to this queue
    delay_ms bigint NOT NULL DEFAULT 0,
    ttl_ms bigint,
    priority integer,
    max_attempts integer,
    headers json NOT NULL DEFAULT '{}',
    whole boolean NOT NULL DEFAULT false, -- the payload is the body, an envelope of its own
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- the relay's
    due_at timestamptz NOT NULL DEFAULT '-infinity',
    tries integer NOT NULL DEFAULT 0, -- that RabbitMQ did not take
    sent_at timestamptz,
    failed_at timestamptz,            -- it will not be tried again: see error
    error text
);

CREATE INDEX outbox_due ON outbox (due_at, id) WHERE sent_at IS NULL AND failed_at IS NULL;
CREATE INDEX outbox_stuck ON outbox (key, id)
    WHERE sent_at IS NULL AND failed_at IS NULL AND tries > 0 AND key <> '';
CREATE INDEX outbox_failed ON outbox (id) WHERE failed_at IS NOT NULL;
CREATE INDEX outbox_sent ON outbox USING brin (sent_at) WITH (autosummarize = on);

-- Publishes an event with the transaction that calls it; returns the event's id. In any language:
--     SELECT leveret_publish('invoice.paid', '{"invoice": 7}');
--     SELECT leveret_publish('invoice.paid', '{"invoice": 7}', key => 'invoice 7', delay => '5 min');
-- The body is {event, payload}, or the payload alone where that is an envelope (whole => true).
CREATE FUNCTION leveret_publish(
    event text,
    payload jsonb,
    id text DEFAULT NULL,
    key text DEFAULT NULL,
    delay interval DEFAULT NULL,
    ttl interval DEFAULT NULL,
    priority integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    exchange text DEFAULT NULL,
    queue text DEFAULT NULL,
    whole boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql VOLATILE AS $publish$
DECLARE
    wrong text := CASE
        WHEN event IS NULL OR event = '' THEN 'event must not be empty'
        WHEN octet_length(event) > 255 THEN 'event is longer than 255 bytes'
        WHEN payload IS NULL THEN 'payload must be a JSON object, not NULL'
        WHEN jsonb_typeof(payload) <> 'object'
            THEN 'payload must be a JSON object, not of type ' || jsonb_typeof(payload)
        WHEN id = '' OR octet_length(id) > 255 THEN 'id must have 1 to 255 bytes'
        WHEN delay < interval '0' THEN 'delay must not be negative'
        WHEN delay > interval '48 days' THEN 'delay must not be longer than 48 days'
        WHEN ttl <= interval '0' THEN 'ttl must be positive'
        WHEN priority NOT BETWEEN 0 AND 255 THEN 'priority must be from 0 to 255'
        WHEN max_attempts < 1 THEN 'max_attempts must be 1 or more'
        WHEN jsonb_typeof(headers) <> 'object' THEN 'headers must be a JSON object'
        WHEN exchange IS NOT NULL AND queue IS NOT NULL THEN 'name an exchange or a queue, not both'
    END;
    new_id text := coalesce(id, leveret_uuid7()::text);
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'leveret_publish: %', wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO outbox (event, payload, event_id, key, exchange, queue, delay_ms, ttl_ms, priority,
                        max_attempts, headers, whole)
    VALUES (event, payload, new_id, coalesce(key, ''), exchange, queue,
            (extract(epoch FROM coalesce(delay, interval '0')) * 1000)::bigint,
            (extract(epoch FROM ttl) * 1000)::bigint, priority, max_attempts,
            coalesce(headers, '{}'), coalesce(whole, false));
    RETURN new_id;
END
$publish$;
-- The functions find the table, whatever the caller's search_path.
ALTER FUNCTION leveret_publish SET search_path FROM CURRENT;

DO $notice$ BEGIN
    RAISE NOTICE 'created the table outbox and the function leveret_publish';
END $notice$;
