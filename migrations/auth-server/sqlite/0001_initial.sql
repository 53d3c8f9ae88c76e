-- People. epoch rises when a password changes or an account is disabled: sessions and refresh tokens of an older epoch are dead.
CREATE TABLE users (
    id blob PRIMARY KEY NOT NULL,
    username text NOT NULL UNIQUE,
    display_name text NOT NULL,
    email text NOT NULL,
    disabled integer NOT NULL,
    epoch integer NOT NULL,
    revision integer NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL
) STRICT;

-- What a person signs in with: an argon2id hash in PHC form.
CREATE TABLE credentials (
    user_id blob PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    password_hash text NOT NULL,
    changed_at text NOT NULL
) STRICT;

CREATE TABLE roles (
    id blob PRIMARY KEY NOT NULL,
    name text NOT NULL UNIQUE,
    description text NOT NULL,
    policies text NOT NULL,
    permissions text NOT NULL,
    builtin integer NOT NULL,
    revision integer NOT NULL
) STRICT;

-- principal is user:ID or service-account:ID; endpoint is a name or *.
CREATE TABLE grants (
    id blob PRIMARY KEY NOT NULL,
    principal text NOT NULL,
    role_id blob NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    endpoint text NOT NULL,
    created_at text NOT NULL,
    UNIQUE (principal, role_id, endpoint)
) STRICT;
CREATE INDEX grants_role ON grants (role_id);

-- Secrets are 256 random bits and kept as SHA-256 only, here and below.
CREATE TABLE service_accounts (
    id blob PRIMARY KEY NOT NULL,
    name text NOT NULL UNIQUE,
    description text NOT NULL,
    secret_hash blob NOT NULL,
    disabled integer NOT NULL,
    revision integer NOT NULL,
    created_at text NOT NULL
) STRICT;

-- metadata is what RFC 7591 lets a client say about itself, as it was kept.
CREATE TABLE clients (
    client_id text PRIMARY KEY NOT NULL,
    metadata text NOT NULL,
    secret_hash blob,
    registration text NOT NULL,
    created_at text NOT NULL,
    last_used_at text
) STRICT;
CREATE INDEX clients_created ON clients (created_at, client_id);

-- metadata_hash is of what the person was shown: a client that changes is asked about again.
CREATE TABLE consents (
    id blob PRIMARY KEY NOT NULL,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    resource text NOT NULL,
    scopes text NOT NULL,
    metadata_hash blob NOT NULL,
    granted_at text NOT NULL,
    UNIQUE (user_id, client_id, resource)
) STRICT;

CREATE TABLE login_sessions (
    id blob PRIMARY KEY NOT NULL,
    token_hash blob NOT NULL UNIQUE,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch integer NOT NULL,
    user_agent text NOT NULL,
    address text NOT NULL,
    authenticated_at text NOT NULL,
    last_seen_at text NOT NULL,
    expires_at text NOT NULL
) STRICT;
CREATE INDEX login_sessions_user ON login_sessions (user_id);

-- A redeemed code stays until it would have expired long ago: its reuse must be seen.
CREATE TABLE authorization_codes (
    code_hash blob PRIMARY KEY NOT NULL,
    family_id blob NOT NULL,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch integer NOT NULL,
    session_id blob NOT NULL,
    redirect_uri text NOT NULL,
    code_challenge text NOT NULL,
    issuer text NOT NULL,
    resource text NOT NULL,
    scopes text NOT NULL,
    nonce text,
    authenticated_at text NOT NULL,
    expires_at text NOT NULL,
    redeemed_at text
) STRICT;

-- One per authorization by a person; its id is the grant_id of every access token made from it.
CREATE TABLE token_families (
    id blob PRIMARY KEY NOT NULL,
    client_id text NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_epoch integer NOT NULL,
    session_id blob NOT NULL,
    issuer text NOT NULL,
    resource text NOT NULL,
    scopes text NOT NULL,
    offline integer NOT NULL,
    authenticated_at text NOT NULL,
    created_at text NOT NULL,
    last_used_at text NOT NULL,
    expires_at text NOT NULL,
    revoked_at text,
    revoked_reason text
) STRICT;
CREATE INDEX token_families_user ON token_families (user_id);

-- successor_sealed is the next token of the chain, readable for the grace period only.
CREATE TABLE refresh_tokens (
    token_hash blob PRIMARY KEY NOT NULL,
    family_id blob NOT NULL REFERENCES token_families (id) ON DELETE CASCADE,
    created_at text NOT NULL,
    used_at text,
    grace_until text,
    successor_hash blob,
    successor_sealed blob
) STRICT;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY NOT NULL,
    alg text NOT NULL,
    public_jwk text NOT NULL,
    private_sealed blob NOT NULL,
    created_at text NOT NULL,
    activates_at text NOT NULL,
    retires_at text
) STRICT;

-- The trust feed, materialised: value is an encoded TrustItem; a removed item stays as a tombstone for the feed's delta window.
-- Revocations live only here; expires_at is when the last token that they concern has expired.
CREATE TABLE trust_items (
    key text PRIMARY KEY NOT NULL,
    value blob NOT NULL,
    removed integer NOT NULL,
    revision integer NOT NULL,
    not_before text,
    changed_at text NOT NULL,
    expires_at text
) STRICT;
CREATE INDEX trust_items_revision ON trust_items (revision);

-- The newest tombstone that was swept away: a follower that is older than it needs a snapshot.
CREATE TABLE trust_floor (id integer PRIMARY KEY CHECK (id = 1), value integer NOT NULL) STRICT;
INSERT INTO trust_floor (id, value) VALUES (1, 0);

-- seq is the order in which rows became durable, which ids are not.
CREATE TABLE audit (
    id blob PRIMARY KEY NOT NULL,
    seq integer NOT NULL UNIQUE,
    occurred_at text NOT NULL,
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
) STRICT;
CREATE INDEX audit_principal ON audit (principal, seq);
CREATE INDEX audit_correlation ON audit (correlation_id);
CREATE TABLE audit_sequence (
    id integer PRIMARY KEY CHECK (id = 1),
    value integer NOT NULL
) STRICT;
INSERT INTO audit_sequence (id, value) VALUES (1, 0);

-- The order of changes, and the answers to creates (sealed, for they can hold a secret) by request id.
CREATE TABLE revision (
    id integer PRIMARY KEY CHECK (id = 1),
    value integer NOT NULL
) STRICT;
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE idempotency (
    scope text NOT NULL,
    request_id text NOT NULL,
    digest blob NOT NULL,
    answer blob,
    created_at text NOT NULL,
    PRIMARY KEY (scope, request_id)
) STRICT;
CREATE INDEX idempotency_created ON idempotency (created_at);
