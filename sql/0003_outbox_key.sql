-- A key that is longer than an index takes would make every mark of the relay's fail, and with it
-- all that was sent be sent again. It is refused where it is written.
LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
UPDATE outbox SET failed_at = clock_timestamp(), error = 'key is longer than 255 bytes'
    WHERE octet_length(key) > 255 AND sent_at IS NULL AND failed_at IS NULL;
ALTER TABLE outbox
    ADD CONSTRAINT outbox_key_is_short CHECK (octet_length(key) <= 255) NOT VALID;
