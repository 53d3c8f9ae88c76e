-- What a server is, before it runs anywhere.
CREATE TABLE servers (
    id               uuid        PRIMARY KEY,
    name             text        NOT NULL UNIQUE,
    description      text        NOT NULL,
    version          text        NOT NULL,
    docker_image_url text        NOT NULL,
    status           text        NOT NULL CHECK (status IN ('enabled', 'disabled')),
    visibility       text        NOT NULL CHECK (visibility IN ('private', 'public')),
    tags             jsonb       NOT NULL,
    env_schema       jsonb       NOT NULL,
    owner            text        NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    -- What an owner sends back as expected_revision.
    revision         bigint      NOT NULL,
    -- When its catalogue item last changed.
    feed_revision    bigint      NOT NULL
);
CREATE INDEX servers_by_creation ON servers (created_at, id);
CREATE INDEX servers_by_feed ON servers (feed_revision);

-- The tag filter's index; servers.tags keeps the order.
CREATE TABLE server_tags (
    tag       text NOT NULL,
    server_id uuid NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, server_id)
);
CREATE INDEX server_tags_by_server ON server_tags (server_id);

-- A server made real at an address.
CREATE TABLE instances (
    id                uuid        PRIMARY KEY,
    server_id         uuid        NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    name              text        NOT NULL,
    description       text        NOT NULL,
    json_spec         jsonb       NOT NULL,
    status            text        NOT NULL CHECK (status IN ('pending', 'healthy', 'unhealthy')),
    status_reason     text        NOT NULL,
    protocol_versions jsonb       NOT NULL,
    checked_at        timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    revision          bigint      NOT NULL,
    feed_revision     bigint      NOT NULL,
    UNIQUE (server_id, name)
);
CREATE INDEX instances_by_creation ON instances (created_at, id);
CREATE INDEX instances_by_feed ON instances (feed_revision);

-- Which secrets an instance refers to; the secret itself may not exist yet.
CREATE TABLE instance_secrets (
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    ref         text NOT NULL,
    PRIMARY KEY (ref, instance_id)
);
CREATE INDEX instance_secrets_by_instance ON instance_secrets (instance_id);

-- The published routes /{name}/mcp.
CREATE TABLE endpoints (
    id            uuid        PRIMARY KEY,
    name          text        NOT NULL UNIQUE,
    description   text        NOT NULL,
    visibility    text        NOT NULL CHECK (visibility IN ('private', 'public')),
    names         text        NOT NULL CHECK (names IN ('plain', 'prefixed')),
    owner         text        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    revision      bigint      NOT NULL,
    feed_revision bigint      NOT NULL
);
CREATE INDEX endpoints_by_creation ON endpoints (created_at, id);
CREATE INDEX endpoints_by_feed ON endpoints (feed_revision);

CREATE TABLE endpoint_members (
    endpoint_id uuid   NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    position    bigint NOT NULL,
    server_id   uuid   NOT NULL REFERENCES servers (id),
    alias       text   NOT NULL,
    tools       jsonb  NOT NULL,
    prompts     jsonb  NOT NULL,
    resources   jsonb  NOT NULL,
    PRIMARY KEY (endpoint_id, server_id),
    UNIQUE (endpoint_id, alias)
);
CREATE INDEX endpoint_members_by_server ON endpoint_members (server_id);

-- What discovery has seen.
CREATE TABLE capabilities (
    server_id   uuid        NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    kind        text        NOT NULL CHECK (kind IN ('tool', 'prompt', 'resource', 'resource_template')),
    name        text        NOT NULL,
    title       text        NOT NULL,
    description text        NOT NULL,
    -- Exactly as the server listed it, so text and not jsonb.
    definition  text        NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (server_id, kind, name)
);

-- A deleted secret keeps its row without a value, so that its version never goes back.
CREATE TABLE secrets (
    ref        text        PRIMARY KEY,
    version    bigint      NOT NULL,
    sealed     bytea,
    owner      text        NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Who did what. Rows are only ever added: seq is the order in which they became durable.
CREATE TABLE audit (
    id             uuid        PRIMARY KEY,
    seq            bigint      NOT NULL UNIQUE,
    occurred_at    timestamptz NOT NULL,
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
    duration_ms    bigint      NOT NULL,
    request_bytes  bigint      NOT NULL,
    response_bytes bigint      NOT NULL,
    peer           text        NOT NULL
);
CREATE INDEX audit_by_principal ON audit (principal, seq);
CREATE INDEX audit_by_action ON audit (action, seq);
CREATE INDEX audit_by_correlation ON audit (correlation_id) WHERE correlation_id <> '';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit records are never changed or removed';
END
$$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

-- Held until commit by whoever appends, so that seq order is commit order.
CREATE TABLE audit_sequence (
    id    integer PRIMARY KEY CHECK (id = 1),
    value bigint  NOT NULL
);
INSERT INTO audit_sequence (id, value) VALUES (1, 0);

-- What left the catalogue, for those who follow it from an older revision.
CREATE TABLE tombstones (
    key        text        PRIMARY KEY,
    revision   bigint      NOT NULL,
    deleted_at timestamptz NOT NULL
);
CREATE INDEX tombstones_by_revision ON tombstones (revision);

-- Tombstones up to this revision are gone: a follower from before it needs a snapshot.
CREATE TABLE tombstone_horizon (
    id       integer PRIMARY KEY CHECK (id = 1),
    revision bigint  NOT NULL
);
INSERT INTO tombstone_horizon (id, revision) VALUES (1, 0);
