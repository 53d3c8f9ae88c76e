-- What every service's database begins with. Frozen: a change is a further migration.
CREATE TABLE revision (
    id integer PRIMARY KEY CHECK (id = 1),
    value integer NOT NULL
) STRICT;
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE outbox (
    id integer PRIMARY KEY AUTOINCREMENT,
    topic text NOT NULL,
    key text NOT NULL,
    payload blob NOT NULL,
    created_at text NOT NULL,
    published_at text
) STRICT;
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE idempotency (
    scope text NOT NULL,
    request_id text NOT NULL,
    digest blob NOT NULL,
    answer blob,
    created_at text NOT NULL,
    PRIMARY KEY (scope, request_id)
) STRICT;
CREATE INDEX idempotency_created ON idempotency (created_at);
