-- What a server is, before it runs anywhere.
CREATE TABLE servers (
    id               blob        PRIMARY KEY NOT NULL,
    name             text        NOT NULL UNIQUE,
    description      text        NOT NULL,
    version          text        NOT NULL,
    docker_image_url text        NOT NULL,
    status           text        NOT NULL CHECK (status IN ('enabled', 'disabled')),
    visibility       text        NOT NULL CHECK (visibility IN ('private', 'public')),
    tags             text        NOT NULL,
    env_schema       text        NOT NULL,
    owner            text        NOT NULL,
    created_at       text        NOT NULL,
    updated_at       text        NOT NULL,
    -- What an owner sends back as expected_revision.
    revision         integer     NOT NULL,
    -- When its catalogue item last changed.
    feed_revision    integer     NOT NULL
) STRICT;
CREATE INDEX servers_by_creation ON servers (created_at, id);
CREATE INDEX servers_by_feed ON servers (feed_revision);

-- The tag filter's index; servers.tags keeps the order.
CREATE TABLE server_tags (
    tag       text NOT NULL,
    server_id blob NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, server_id)
) STRICT;
CREATE INDEX server_tags_by_server ON server_tags (server_id);

-- A server made real at an address.
CREATE TABLE instances (
    id                blob        PRIMARY KEY NOT NULL,
    server_id         blob        NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    name              text        NOT NULL,
    description       text        NOT NULL,
    json_spec         text        NOT NULL,
    status            text        NOT NULL CHECK (status IN ('pending', 'healthy', 'unhealthy')),
    status_reason     text        NOT NULL,
    protocol_versions text        NOT NULL,
    checked_at        text,
    created_at        text        NOT NULL,
    updated_at        text        NOT NULL,
    revision          integer     NOT NULL,
    feed_revision     integer     NOT NULL,
    UNIQUE (server_id, name)
) STRICT;
CREATE INDEX instances_by_creation ON instances (created_at, id);
CREATE INDEX instances_by_feed ON instances (feed_revision);

-- Which secrets an instance refers to; the secret itself may not exist yet.
CREATE TABLE instance_secrets (
    instance_id blob NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    ref         text NOT NULL,
    PRIMARY KEY (ref, instance_id)
) STRICT;
CREATE INDEX instance_secrets_by_instance ON instance_secrets (instance_id);

-- The published routes /{name}/mcp.
CREATE TABLE endpoints (
    id            blob        PRIMARY KEY NOT NULL,
    name          text        NOT NULL UNIQUE,
    description   text        NOT NULL,
    visibility    text        NOT NULL CHECK (visibility IN ('private', 'public')),
    names         text        NOT NULL CHECK (names IN ('plain', 'prefixed')),
    owner         text        NOT NULL,
    created_at    text        NOT NULL,
    updated_at    text        NOT NULL,
    revision      integer     NOT NULL,
    feed_revision integer     NOT NULL
) STRICT;
CREATE INDEX endpoints_by_creation ON endpoints (created_at, id);
CREATE INDEX endpoints_by_feed ON endpoints (feed_revision);

CREATE TABLE endpoint_members (
    endpoint_id blob   NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    position    integer NOT NULL,
    server_id   blob   NOT NULL REFERENCES servers (id),
    alias       text   NOT NULL,
    tools       text   NOT NULL,
    prompts     text   NOT NULL,
    resources   text   NOT NULL,
    PRIMARY KEY (endpoint_id, server_id),
    UNIQUE (endpoint_id, alias)
) STRICT;
CREATE INDEX endpoint_members_by_server ON endpoint_members (server_id);

-- What discovery has seen.
CREATE TABLE capabilities (
    server_id   blob        NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    kind        text        NOT NULL CHECK (kind IN ('tool', 'prompt', 'resource', 'resource_template')),
    name        text        NOT NULL,
    title       text        NOT NULL,
    description text        NOT NULL,
    -- Exactly as the server listed it.
    definition  text        NOT NULL,
    seen_at     text        NOT NULL,
    PRIMARY KEY (server_id, kind, name)
) STRICT;

-- A deleted secret keeps its row without a value, so that its version never goes back.
CREATE TABLE secrets (
    ref        text        PRIMARY KEY NOT NULL,
    version    integer     NOT NULL,
    sealed     blob ,
    owner      text        NOT NULL,
    created_at text        NOT NULL,
    updated_at text        NOT NULL
) STRICT;

-- Who did what. Rows are only ever added: seq is the order in which they became durable.
CREATE TABLE audit (
    id             blob        PRIMARY KEY NOT NULL,
    seq            integer     NOT NULL UNIQUE,
    occurred_at    text        NOT NULL,
    service        text        NOT NULL,
    principal      text        NOT NULL,
    client_id      text        NOT NULL,
    action         text        NOT NULL,
    target         text        NOT NULL,
    name           text        NOT NULL,
    outcome        text        NOT NULL CHECK (outcome IN ('allowed', 'denied', 'failed')),
    reason         text        NOT NULL,
    correlation_id text        NOT NULL,
    trace_id       text        NOT NULL,
    duration_ms    integer     NOT NULL,
    request_bytes  integer     NOT NULL,
    response_bytes integer     NOT NULL,
    peer           text        NOT NULL
) STRICT;
CREATE INDEX audit_by_principal ON audit (principal, seq);
CREATE INDEX audit_by_action ON audit (action, seq);
CREATE INDEX audit_by_correlation ON audit (correlation_id) WHERE correlation_id <> '';

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never changed or removed');
END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never changed or removed');
END;

-- Held until commit by whoever appends, so that seq order is commit order.
CREATE TABLE audit_sequence (
    id    integer PRIMARY KEY CHECK (id = 1),
    value integer  NOT NULL
) STRICT;
INSERT INTO audit_sequence (id, value) VALUES (1, 0);

-- What left the catalogue, for those who follow it from an older revision.
CREATE TABLE tombstones (
    key        text        PRIMARY KEY NOT NULL,
    revision   integer     NOT NULL,
    deleted_at text        NOT NULL
) STRICT;
CREATE INDEX tombstones_by_revision ON tombstones (revision);

-- Tombstones up to this revision are gone: a follower from before it needs a snapshot.
CREATE TABLE tombstone_horizon (
    id       integer PRIMARY KEY CHECK (id = 1),
    revision integer  NOT NULL
) STRICT;
INSERT INTO tombstone_horizon (id, revision) VALUES (1, 0);
