//! The registry's migrations, compiled in.

use portico_db::{Migration, Schema, TABLES_POSTGRES, TABLES_SQLITE};

static SCHEMA: Schema = Schema {
    name: "registry",
    postgres: &[
        Migration { version: 1, name: "revision, outbox, idempotency", sql: TABLES_POSTGRES },
        Migration {
            version: 2,
            name: "registry",
            sql: include_str!("../../../../../migrations/registry/postgres/0002_registry.sql"),
        },
        Migration {
            version: 3,
            name: "audit retention",
            sql: include_str!("../../../../../migrations/registry/postgres/0003_audit_retention.sql"),
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../../migrations/registry/postgres/0004_audit_clocks.sql"),
        },
    ],
    sqlite: &[
        Migration { version: 1, name: "revision, outbox, idempotency", sql: TABLES_SQLITE },
        Migration {
            version: 2,
            name: "registry",
            sql: include_str!("../../../../../migrations/registry/sqlite/0002_registry.sql"),
        },
        Migration {
            version: 3,
            name: "audit retention",
            sql: include_str!("../../../../../migrations/registry/sqlite/0003_audit_retention.sql"),
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../../migrations/registry/sqlite/0004_audit_clocks.sql"),
        },
    ],
};

/// The schema that this version of the registry works on.
#[must_use]
pub fn schema() -> &'static Schema {
    &SCHEMA
}
