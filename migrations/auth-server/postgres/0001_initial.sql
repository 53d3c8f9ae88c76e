-- People. epoch rises when a password changes or an account is disabled: sessions and refresh tokens of an older epoch are dead.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    username text NOT NULL UNIQUE,
    display_name text NOT NULL,
    email text NOT NULL,
    disabled boolean NOT NULL,
    epoch bigint NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- What a person signs in with: an argon2id hash in PHC form.
CREATE TABLE credentials (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    password_hash text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE roles (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL,
    policies text NOT NULL,
    permissions jsonb NOT NULL,
    builtin boolean NOT NULL,
    revision bigint NOT NULL
);

-- principal is user:ID or service-account:ID; endpoint is a name or *.
CREATE TABLE grants (
    id uuid PRIMARY KEY,
    principal text NOT NULL,
    role_id uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    endpoint text NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (principal, role_id, endpoint)
);
CREATE INDEX grants_role ON grants (role_id);

-- Secrets are 256 random bits and kept as SHA-256 only, here and below.
CREATE TABLE service_accounts (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL,
    secret_hash bytea NOT NULL,
    disabled boolean NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL
);

-- metadata is what RFC 7591 lets a client say about itself, as it was kept.
CREATE TABLE clients (
    client_id text PRIMARY KEY,
    metadata jsonb NOT NULL,
    secret_hash bytea,
    registration text NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz
);
CREATE INDEX clients_created ON clients (created_at, client_id);

-- metadata_hash is of what the person was shown: a client that changes is asked about again.
CREATE TABLE consents (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    resource text NOT NULL,
    scopes jsonb NOT NULL,
    metadata_hash bytea NOT NULL,
    granted_at timestamptz NOT NULL,
    UNIQUE (user_id, client_id, resource)
);

CREATE TABLE login_sessions (
    id uuid PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch bigint NOT NULL,
    user_agent text NOT NULL,
    address text NOT NULL,
    authenticated_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX login_sessions_user ON login_sessions (user_id);

-- A redeemed code stays until it would have expired long ago: its reuse must be seen.
CREATE TABLE authorization_codes (
    code_hash bytea PRIMARY KEY,
    family_id uuid NOT NULL,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch bigint NOT NULL,
    session_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    code_challenge text NOT NULL,
    issuer text NOT NULL,
    resource text NOT NULL,
    scopes jsonb NOT NULL,
    nonce text,
    authenticated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    redeemed_at timestamptz
);

-- One per authorization by a person; its id is the grant_id of every access token made from it.
CREATE TABLE token_families (
    id uuid PRIMARY KEY,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch bigint NOT NULL,
    session_id uuid NOT NULL,
    issuer text NOT NULL,
    resource text NOT NULL,
    scopes jsonb NOT NULL,
    offline boolean NOT NULL,
    authenticated_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_reason text
);
CREATE INDEX token_families_user ON token_families (user_id);

-- successor_sealed is the next token of the chain, readable for the grace period only.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    family_id uuid NOT NULL REFERENCES token_families (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    used_at timestamptz,
    grace_until timestamptz,
    successor_hash bytea,
    successor_sealed bytea
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    alg text NOT NULL,
    public_jwk text NOT NULL,
    private_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    activates_at timestamptz NOT NULL,
    retires_at timestamptz
);

-- The trust feed, materialised: value is an encoded TrustItem; a removed item stays as a tombstone for the feed's delta window.
-- Revocations live only here; expires_at is when the last token that they concern has expired.
CREATE TABLE trust_items (
    key text PRIMARY KEY,
    value bytea NOT NULL,
    removed boolean NOT NULL,
    revision bigint NOT NULL,
    not_before timestamptz,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX trust_items_revision ON trust_items (revision);

-- The newest tombstone that was swept away: a follower that is older than it needs a snapshot.
CREATE TABLE trust_floor (id smallint PRIMARY KEY CHECK (id = 1), value bigint NOT NULL);
INSERT INTO trust_floor (id, value) VALUES (1, 0);

-- seq is the order in which rows became durable, which ids are not.
CREATE TABLE audit (
    id uuid PRIMARY KEY,
    seq bigint NOT NULL UNIQUE,
    occurred_at timestamptz NOT NULL,
    principal text NOT NULL,
    client_id text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    name text NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    correlation_id text NOT NULL,
    trace_id text NOT NULL,
    peer text NOT NULL
);
CREATE INDEX audit_principal ON audit (principal, seq);
CREATE INDEX audit_correlation ON audit (correlation_id);
CREATE TABLE audit_sequence (
    id smallint PRIMARY KEY CHECK (id = 1),
    value bigint NOT NULL
);
INSERT INTO audit_sequence (id, value) VALUES (1, 0);

-- The order of changes, and the answers to creates (sealed, for they can hold a secret) by request id.
CREATE TABLE revision (
    id smallint PRIMARY KEY CHECK (id = 1),
    value bigint NOT NULL
);
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE idempotency (
    scope text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    answer bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX idempotency_created ON idempotency (created_at);
